"""What the benches of a whole factory share: medians, waiting, CPU of processes that came and went, clearing up."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench import support
from bench.support import Use


def test_medians_are_of_each_figure_and_facts_stay() -> None:
    runs = [
        {"a_s": 1.0, "n": 3, "text": "x"},
        {"a_s": 9.0, "n": 1, "text": "x"},
        {"a_s": 2.0, "n": 2, "text": "x"},
    ]
    assert support.medians(runs) == {"runs": 3, "a_s": 2.0, "n": 2, "text": "x"}


def test_a_figure_that_one_run_lacks_is_left_out() -> None:
    assert support.medians([{"a_s": 1.0, "b_s": 2.0}, {"a_s": 3.0}]) == {"runs": 2, "a_s": 2.0}


def test_percentiles_are_of_the_nearest_rank() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert support.percentile(values, 0.5) == 51
    assert support.percentile(values, 0.99) == 100
    assert support.percentile([7.0], 0.99) == 7


def test_a_line_says_how_busy_the_machine_was(capsys: pytest.CaptureFixture[str]) -> None:
    support.emit("b", "one", x_s=1.5)
    line = json.loads(capsys.readouterr().out)
    assert (line["bench"], line["case"], line["x_s"]) == ("b", "one", 1.5)
    assert line["load_1m"] >= 0


def test_cpu_is_the_difference_also_for_a_part_that_is_new() -> None:
    before = {"a": Use(cpu_s=2.0), "gone": Use(cpu_s=5.0)}
    after = {"a": Use(cpu_s=3.5), "new": Use(cpu_s=0.5)}
    assert support.cpu_between(before, after) == {"a": 1.5, "new": 0.5}


def test_waiting_ends_when_it_holds_and_fails_in_words() -> None:
    answers = iter([False, False, True])
    support.until(lambda: next(answers), 5, "it holds", every=0.001)
    with pytest.raises(SystemExit, match="within 0 s it did not happen that it holds"):
        support.until(lambda: False, 0, "it holds", every=0.001)


def test_what_works_on_a_data_folder_is_ended_and_nothing_else(tmp_path: Path) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    mine = subprocess.Popen([*sleeper, str(tmp_path / "data" / "port.json")])
    other = subprocess.Popen([*sleeper, str(tmp_path / "elsewhere")])
    try:
        support.until(
            lambda: all(psutil.Process(one.pid).cmdline()[1:2] == ["-c"] for one in (mine, other)),
            10,
            "both run",
            every=0.01,
        )
        assert support.end_left(tmp_path / "data") == 1
        assert not psutil.pid_exists(mine.pid)
        assert other.poll() is None
        assert support.end_left(tmp_path / "data") == 0
    finally:
        for one in (mine, other):
            one.kill()
            one.wait(10)


def test_a_folder_without_a_database_has_no_server(tmp_path: Path) -> None:
    assert support.postmaster(tmp_path) is None
    folder = tmp_path / "postgres" / "data"
    folder.mkdir(parents=True)
    (folder / "postmaster.pid").write_text(f"{psutil.Process().pid}\n")
    assert support.postmaster(tmp_path) is None, "a process id may be somebody else's by now"
