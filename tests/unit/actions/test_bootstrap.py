"""The first keys: made once, kept for their owner alone, replaced when they are lost or revoked."""

import stat
from pathlib import Path

import pytest

from penstock.actions.bootstrap import bootstrap, write_secret
from penstock.actions.context import Context
from penstock.control_plane import ControlPlane
from tests.support.infrastructure import change, query


@pytest.fixture
def context(control_plane: ControlPlane) -> Context:
    return control_plane.context


def rows(context: Context) -> dict[str, int]:
    tables = ("tenant", "project", "principal", "role_binding", "api_key")
    return {table: len(query(context, f"SELECT id FROM {table}")) for table in tables}  # noqa: S608 - our own words


def test_a_second_start_finds_what_the_first_made(context: Context, tmp_path: Path) -> None:
    first = bootstrap(context, tmp_path / "keys")
    made = rows(context)
    assert made == {"tenant": 1, "project": 1, "principal": 2, "role_binding": 2, "api_key": 2}
    assert bootstrap(context, tmp_path / "keys") == first
    assert rows(context) == made


def test_the_database_holds_no_key_in_clear_and_the_files_are_private(
    context: Context, tmp_path: Path
) -> None:
    folder = tmp_path / "keys"
    keys = bootstrap(context, folder)
    stored = repr(query(context, "SELECT * FROM api_key"))
    for key in (keys.operator_key, keys.demo_key):
        assert key not in stored
        assert key.rpartition("_")[2] not in stored
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {file.name for file in folder.iterdir()} == {"operator.key", "demo.key", "proof-signing.pem"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert (folder / "demo.key").read_text() == keys.demo_key + "\n"


def test_a_lost_file_or_a_revoked_key_is_replaced_and_the_other_kept(
    context: Context, tmp_path: Path
) -> None:
    first = bootstrap(context, tmp_path)
    (tmp_path / "demo.key").unlink()
    second = bootstrap(context, tmp_path)
    assert second.demo_key != first.demo_key
    assert second.operator_key == first.operator_key
    change(context, "UPDATE api_key SET revoked_at = :at WHERE tenant_id IS NULL", at=context.clock.now())
    third = bootstrap(context, tmp_path)
    assert third.operator_key != second.operator_key
    assert third.demo_key == second.demo_key


@pytest.mark.parametrize("text", ["", "nonsense", "psk_aaaaaaaaaa_" + "a" * 40])
def test_a_file_with_something_else_in_it_is_replaced(context: Context, tmp_path: Path, text: str) -> None:
    first = bootstrap(context, tmp_path)
    (tmp_path / "operator.key").write_text(text)
    assert bootstrap(context, tmp_path).operator_key not in (text, first.operator_key)


def test_another_principals_key_is_not_taken_for_the_operators(context: Context, tmp_path: Path) -> None:
    first = bootstrap(context, tmp_path)
    (tmp_path / "operator.key").write_text(first.demo_key)
    assert bootstrap(context, tmp_path).operator_key != first.demo_key


def test_a_secret_replaces_an_open_file_by_a_private_one(tmp_path: Path) -> None:
    file = tmp_path / "x.key"
    file.write_text("old")
    file.chmod(0o644)
    write_secret(file, "new")
    assert file.read_text() == "new\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]
