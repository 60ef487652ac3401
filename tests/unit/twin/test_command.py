"""The studies of the twin are found by name, and bad input is one line."""

import pytest

from penstock.twin.command import STUDIES, run


def test_help_names_every_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {study} " in shown for study in STUDIES)


def test_an_unknown_study_is_refused_and_the_known_ones_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["nonsense"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "'nonsense'" in shown.err
    assert "place, queue" in shown.err
