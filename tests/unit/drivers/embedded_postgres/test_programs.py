"""The installed programs are found and run in an environment of their own."""

import dataclasses
import os
import stat
from pathlib import Path

import pytest

from penstock.base.errors import StartupError
from penstock.drivers.embedded_postgres import programs
from penstock.drivers.embedded_postgres.folder import server_account
from penstock.drivers.embedded_postgres.programs import program_folder, run_program

HERE = dataclasses.replace(server_account(), uid=os.geteuid(), gid=os.getegid(), switch=False)


def script(folder: Path, body: str) -> Path:
    file = folder / "program"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return file


def test_the_programs_are_found_without_importing_their_package() -> None:
    folder = program_folder(server_account())
    for name in ("postgres", "initdb", "pg_ctl", "pg_dump"):
        assert os.access(folder / name, os.X_OK)


def test_a_package_that_is_absent_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_PACKAGE", "no_such_package_at_all")
    with pytest.raises(StartupError, match="PENSTOCK_DATABASE_URL"):
        program_folder(HERE)


def test_success_is_silent_and_failure_is_what_it_said(tmp_path: Path) -> None:
    assert run_program(script(tmp_path, "echo fine"), [], HERE, tmp_path, 10) is None
    said = run_program(script(tmp_path, "echo one; echo two >&2; exit 3"), [], HERE, tmp_path, 10)
    assert said == "one\ntwo"
    assert run_program(script(tmp_path, "exit 4"), [], HERE, tmp_path, 10) == "program ended with status 4"


def test_what_does_not_end_or_cannot_run_is_a_complaint(tmp_path: Path) -> None:
    assert "did not end within 0 s" in str(run_program(script(tmp_path, "sleep 30"), [], HERE, tmp_path, 0.2))
    assert "could not be run" in str(run_program(tmp_path / "absent", [], HERE, tmp_path, 10))


def test_the_callers_settings_do_not_reach_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGOPTIONS", "-c fsync=off")
    file = script(tmp_path, 'env > seen; umask >> seen; printf "%s\\n" "$PWD" >> seen')
    assert run_program(file, [], HERE, tmp_path, 10) is None
    seen = (tmp_path / "seen").read_text()
    assert "PGPORT" not in seen
    assert "PGOPTIONS" not in seen
    assert "LC_ALL=C\n" in seen
    assert seen.endswith(f"0077\n{tmp_path}\n")


def test_programs_under_a_strict_umask_are_opened_for_reading(tmp_path: Path) -> None:
    top = tmp_path / "install"
    (top / "bin").mkdir(parents=True)
    (top / "bin" / "initdb").write_text("")
    (top / "bin" / "initdb").chmod(0o700)
    (top / "share").write_text("")
    (top / "share").chmod(0o600)
    top.chmod(0o700)
    programs._make_readable(top)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (top, top / "bin" / "initdb", top / "share")]
    assert modes == [0o755, 0o755, 0o644]
