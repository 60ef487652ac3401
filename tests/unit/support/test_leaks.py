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
def test_leaves_a_process(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (tmp_path.parent.parent / "pid").write_text(str(child.pid))
    child.returncode = 0  # silence the warning that it still runs: the check must find it without
def test_clean():
    pass
"""
DAEMON = """
import subprocess, sys, time
def test_leaves_a_daemon(tmp_path):
    code = "import os, time; os.fork() and os._exit(0); os.setsid(); time.sleep(600)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, close_fds=True)
"""
CLEAN = """
import subprocess, sys
def test_cleans_up():
    assert subprocess.run([sys.executable, "-c", "pass"]).returncode == 0
"""


def run_pytest(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest with this project's conftest and nothing else of it on one file of ``text``."""
    (folder / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (folder / "test_planted.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--basetemp", str(folder / "tmp"), *options]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("options", [(), ("-n", "2")])
@pytest.mark.parametrize("text", [LEAKY, DAEMON])
def test_a_process_left_behind_fails_the_run(tmp_path: Path, text: str, options: tuple[str, ...]) -> None:
    done = run_pytest(tmp_path, text, *options)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    (sentence,) = [line for line in done.stdout.splitlines() if "LEFT BEHIND" in line]
    assert "time.sleep(600)" in sentence
    pid = int(sentence.split("process ")[1].split()[0])
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert "failed" not in done.stdout.splitlines()[-1]


def test_a_clean_run_passes(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, CLEAN)
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert "LEFT BEHIND" not in done.stdout


def test_a_run_within_a_run_leaves_its_parents_alone(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        assert run_pytest(tmp_path, CLEAN).returncode == pytest.ExitCode.OK
        assert other.poll() is None
    finally:
        other.communicate(b"", timeout=30)
