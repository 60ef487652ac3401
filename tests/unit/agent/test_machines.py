"""What is said of a host of machines is checked and remembered."""

import argparse
import json
from pathlib import Path

import pytest

from penstock.agent import machines
from penstock.base.clock import SystemClock
from penstock.base.errors import InvalidInputError


def said(folder: Path, *words: str) -> None:
    parser = argparse.ArgumentParser()
    machines.add_options(parser)
    machines.remember(folder, parser.parse_args(words))


def found(folder: Path) -> list[Path]:
    return [log._file for log in machines.logs(folder, SystemClock())]


def test_libvirts_log_is_the_named_one_else_the_usual_one_if_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, named = tmp_path / "usual.log", tmp_path / "named.log"
    monkeypatch.setattr(machines, "DEFAULT", usual)
    usual.touch()
    assert found(tmp_path) == [], "no machines run here"
    said(tmp_path, "--libvirt", "qemu:///system")
    assert found(tmp_path) == [usual]
    usual.unlink()
    assert found(tmp_path) == []
    said(tmp_path, "--libvirt-log", str(named))
    assert found(tmp_path) == [named], "also while it is not there: that is said in the agent's log"
    usual.touch()
    said(tmp_path, "--libvirt-log", "none")
    assert found(tmp_path) == []
    with pytest.raises(InvalidInputError) as caught:
        said(tmp_path, "--libvirt-log", "libvirtd.log")
    assert caught.value.field == "libvirt_log"
    assert found(tmp_path) == []


def test_how_many_start_at_once_is_said_within_limits_and_taken_back(tmp_path: Path) -> None:
    def remembered() -> str | None:
        return json.loads((tmp_path / "machines.json").read_text()).get("starts_at_once")

    said(tmp_path, "--libvirt", "qemu:///system")
    assert remembered() is None
    said(tmp_path, "--starts-at-once", "8")
    said(tmp_path, "--acceleration", "tcg")
    assert remembered() == "8"
    for wrong in ("0", "17", "-1", "8.0", "many", "9" * 5_000):
        with pytest.raises(InvalidInputError) as caught:
            said(tmp_path, f"--starts-at-once={wrong}")
        assert caught.value.field == "starts_at_once"
    assert remembered() == "8"
    said(tmp_path, "--starts-at-once", "default")
    assert remembered() is None
