"""A run that leaves a process behind fails, names it and stops it; also with workers, also when it daemonised."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[3]

LEAKY = """
import subprocess, sys
def test_leaves_a_process():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    child.returncode = 0  # silence Python's own warning: the check must find it without
def test_leaves_a_daemon():
    code = "import os, time; os.fork() and os._exit(0); os.setsid(); time.sleep(601)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
"""
CLEAN = """
import subprocess, sys
def test_cleans_up():
    assert subprocess.run([sys.executable, "-c", "pass"]).returncode == 0
"""


def run_pytest(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest with this project's conftest and nothing else of it on one file of ``text``."""
    conftest = (ROOT / "tests/conftest.py").read_text()
    assert "leaks.stop_left_behind()" in conftest
    hasty = conftest.replace("leaks.stop_left_behind()", "leaks.stop_left_behind(patience_seconds=1.5)")
    (folder / "conftest.py").write_text(hasty)
    (folder / "test_planted.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment["PYTHONPATH"] = str(ROOT)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:schemathesis",
        "--basetemp",
        str(folder / "tmp"),
        *options,
    ]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_processes_left_behind_fail_the_run_and_are_stopped(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run_pytest(tmp_path, LEAKY, *options)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    sentences = sorted(line for line in done.stdout.splitlines() if "LEFT BEHIND" in line)
    assert len(sentences) == 2
    for marker in ("time.sleep(600)", "time.sleep(601)"):
        (sentence,) = [sentence for sentence in sentences if marker in sentence]
        pid = int(sentence.split("process ")[1].split()[0])
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert "2 passed" in done.stdout.splitlines()[-1]


def test_a_clean_run_passes_and_leaves_the_run_around_it_alone(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        done = run_pytest(tmp_path, CLEAN)
        assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
        assert "LEFT BEHIND" not in done.stdout
        assert other.poll() is None
    finally:
        other.communicate(b"", timeout=30)
