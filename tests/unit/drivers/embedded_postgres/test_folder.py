"""Who may own, see and hold the data folder."""

import dataclasses
import os
import stat
import struct
from pathlib import Path

import pytest

from penstock.base.errors import StartupError
from penstock.drivers.embedded_postgres import folder as module
from penstock.drivers.embedded_postgres.folder import (
    SERVER_USER,
    hold,
    let_through,
    prepare_folder,
    private_folder,
    server_account,
)

MINE = dataclasses.replace(server_account(), uid=os.geteuid(), gid=os.getegid(), switch=False)
NOBODY = 65_534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")


def test_root_runs_it_as_a_user_of_its_own_and_others_as_themselves() -> None:
    account = server_account()
    assert account.switch == (os.geteuid() == 0)
    assert account.uid != 0
    assert (account.name == SERVER_USER) or account.uid == os.geteuid()


def test_a_new_folder_is_private_with_its_parents(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "a" / "b", MINE)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


@needs_root
def test_a_folder_of_somebody_else_is_refused_by_name(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, NOBODY, NOBODY)
    with pytest.raises(StartupError, match="belongs to user"):
        prepare_folder(theirs, MINE)


def test_the_holder_is_named_and_its_end_frees_the_folder(tmp_path: Path) -> None:
    first = hold(tmp_path)
    with pytest.raises(StartupError, match=f"process {os.getpid()}") as caught:
        hold(tmp_path)
    assert caught.value.data == {"folder": str(tmp_path), "pid": str(os.getpid())}
    os.close(first)
    os.close(hold(tmp_path))


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(StartupError, match="cannot be used"):
        hold(tmp_path)
    assert (tmp_path / "precious").read_text() == "data"


def test_a_socket_folder_that_somebody_prepared_is_refused(tmp_path: Path) -> None:
    private_folder(tmp_path / "run", MINE)
    private_folder(tmp_path / "run", MINE)
    (tmp_path / "run").chmod(0o755)
    with pytest.raises(StartupError, match="somebody else"):
        private_folder(tmp_path / "run", MINE)
    (tmp_path / "target").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(StartupError, match="somebody else"):
        private_folder(tmp_path / "link", MINE)


def entries(folder: Path) -> dict[tuple[int, int], int]:
    raw = os.getxattr(folder, "system.posix_acl_access")
    return {(tag, who): allowed for tag, allowed, who in struct.iter_unpack("<HHI", raw[4:])}


def test_walking_is_allowed_to_one_user_and_once(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o750)
    for _ in range(2):
        module._allow_walking(closed, 0o750, NOBODY)
        none = 0xFFFFFFFF
        assert entries(closed) == {
            (0x01, none): 7,
            (0x02, NOBODY): 1,
            (0x04, none): 5,
            (0x10, none): 5,
            (0x20, none): 0,
        }


def test_what_a_mask_took_from_others_they_do_not_get_back(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    none, other_user = 0xFFFFFFFF, 12_345
    rows = [(0x01, 7, none), (0x02, 7, other_user), (0x04, 7, none), (0x10, 4, none), (0x20, 0, none)]
    body = b"".join(struct.pack("<HHI", *row) for row in rows)
    os.setxattr(closed, "system.posix_acl_access", struct.pack("<I", 2) + body)
    module._allow_walking(closed, 0o740, NOBODY)
    found = entries(closed)
    effective = {key: allowed & found[0x10, none] for key, allowed in found.items()}
    assert effective[0x02, other_user] == 4
    assert effective[0x04, none] == 4
    assert effective[0x02, NOBODY] == 1


def test_only_folders_that_are_closed_to_it_are_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[Path] = []
    monkeypatch.setattr(module, "_allow_walking", lambda folder, _mode, _uid: changed.append(folder))
    (tmp_path / "open" / "closed").mkdir(parents=True)
    (tmp_path / "open").chmod(0o711)
    (tmp_path / "open" / "closed").chmod(0o700)
    stranger = dataclasses.replace(MINE, name="nobody", uid=NOBODY, switch=True)
    let_through(tmp_path / "open" / "closed" / "file", stranger)
    assert tmp_path / "open" / "closed" in changed
    assert tmp_path / "open" not in changed
    assert Path("/") not in changed
    changed.clear()
    let_through(tmp_path / "open" / "closed" / "file", dataclasses.replace(stranger, uid=os.geteuid()))
    assert changed == []  # what it owns and may walk through needs nothing
