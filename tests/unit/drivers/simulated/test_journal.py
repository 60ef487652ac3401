"""The journal of the simulated hardware: torn ends, full disks, and kill -9 in the middle of writing."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from penstock.base.errors import StartupError
from penstock.drivers.simulated.journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "world.jsonl")
    yield made
    made.close()


def test_what_was_written_is_read(journal: Journal, tmp_path: Path) -> None:
    assert list(journal.read()) == []
    journal.rewrite([{"a": 1}])
    journal.append([{"b": 2}, {"c": [3]}])
    assert list(Journal(tmp_path / "world.jsonl").read()) == [{"a": 1}, {"b": 2}, {"c": [3]}]
    assert journal.size_bytes == (tmp_path / "world.jsonl").stat().st_size


def test_nothing_is_appended_to_a_journal_that_is_not_open(journal: Journal) -> None:
    with pytest.raises(ValueError, match="not open"):
        journal.append([{"a": 1}])
    journal.rewrite([])
    journal.close()
    journal.close()
    with pytest.raises(ValueError, match="not open"):
        journal.append([{"a": 1}])


@pytest.mark.parametrize("cut", [1, 2, 5, 8])
def test_a_torn_end_never_counted(journal: Journal, tmp_path: Path, cut: int) -> None:
    file = tmp_path / "world.jsonl"
    journal.rewrite([{"first": 1}])
    journal.append([{"second": 2}])
    content = file.read_bytes()
    file.write_bytes(content[: -cut - 1])
    assert list(journal.read()) == [{"first": 1}]


def test_a_spoilt_line_in_the_middle_is_not_taken_for_the_end(journal: Journal, tmp_path: Path) -> None:
    journal.rewrite([{"first": 1}, {"second": 2}, {"third": 3}])
    file = tmp_path / "world.jsonl"
    file.write_bytes(file.read_bytes().replace(b'{"second":2}', b'{"sec'))
    with pytest.raises(StartupError, match="line 2"):
        list(journal.read())


def test_rewriting_leaves_no_half_file(journal: Journal, tmp_path: Path) -> None:
    journal.rewrite([{"n": n} for n in range(1000)])
    journal.rewrite([{"only": 1}])
    assert [path.name for path in tmp_path.iterdir()] == ["world.jsonl"]
    journal.append([{"and": 2}])
    assert list(journal.read()) == [{"only": 1}, {"and": 2}]


def test_a_full_disk_takes_nothing_of_a_write_back_into_the_file(tmp_path: Path) -> None:
    """The limit on a file's size stands in for the disk: the kernel then writes a part, as ENOSPC does."""
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from penstock.drivers.simulated.journal import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "journal.rewrite([{'kept': 1}])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40))\n"
        "try:\n"
        "    journal.append([{'lost': 'x' * 100}])\n"
        "except OSError as error:\n"
        "    print('refused', journal.size_bytes)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40))\n"
        "journal.append([{'after': 2}])\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 40  # the child's limit is the child's alone
    file = tmp_path / "world.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["refused", "11"]
    assert list(Journal(file).read()) == [{"kept": 1}, {"after": 2}]


def test_kill_9_while_appending_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    file = tmp_path / "world.jsonl"
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from penstock.drivers.simulated.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "journal.rewrite([])\n"
        "for n in range(10**9):\n"
        "    journal.append([{'n': n, 'half': 0, 'pad': 'x' * 2000}, {'n': n, 'half': 1}])\n"
        "    sys.stdout.write(f'{n}\\n')\n"
        "    sys.stdout.flush()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(file)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        for _ in range(300):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        told = process.stdout.read().split()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    acknowledged = int(told[-1]) if told else 299
    lines = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    assert lines == list(Journal(file).read())
    pairs = [(line["n"], line["half"]) for line in lines]
    assert pairs == [(n, half) for n in range(len(pairs) // 2) for half in (0, 1)]  # whole batches, in order
    assert len(pairs) // 2 in {acknowledged + 1, acknowledged + 2}
