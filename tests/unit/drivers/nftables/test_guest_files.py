"""Files that guests read: root's alone, replaced whole, there exactly as long as their port and their machine are."""

import stat
from pathlib import Path

import pytest

from penstock.drivers.nftables import guest_files


def _names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_user_data_is_kept_of_ports_that_have_some_and_of_no_others(tmp_path: Path) -> None:
    data = {"pnt1": b"\0\xff", "pnt2": b"two", "elsewhere": b"no"}
    guest_files.put_user_data(tmp_path, ("pnt1", "pnt2", "pnt3"), data)
    assert _names(tmp_path) == ["pnt1.user-data", "pnt2.user-data"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    assert guest_files.user_data(tmp_path, "pnt1") == b"\0\xff"
    assert guest_files.user_data(tmp_path, "pnt3") is None
    guest_files.put_user_data(tmp_path, ("pnt1",), None)
    assert _names(tmp_path) == ["pnt1.user-data"], (
        "of what is not known yet, a port that is gone loses its own only"
    )
    guest_files.put_user_data(tmp_path, ("pnt1",), {})
    assert _names(tmp_path) == []


def test_a_half_written_file_goes_and_none_is_written_where_no_network_is(tmp_path: Path) -> None:
    (tmp_path / "pnt1.user-data.new").write_bytes(b"half")
    guest_files.put_user_data(tmp_path, ("pnt1",), {"pnt1": b"whole"})
    assert _names(tmp_path) == ["pnt1.user-data"]
    guest_files.put_user_data(tmp_path / "gone", ("pnt1",), {"pnt1": b"x"})
    assert not (tmp_path / "gone").exists()


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "one"
    guest_files.write(file, b"one")
    before = file.stat().st_ino
    guest_files.write(file, b"one")
    assert file.stat().st_ino == before
    guest_files.write(file, b"two")
    assert (file.read_bytes(), _names(tmp_path)) == (b"two", ["one"])
    (tmp_path / "one.new").symlink_to(file)
    with pytest.raises(OSError, match="symbolic"):
        guest_files.write(file, b"three")
