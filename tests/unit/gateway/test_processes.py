"""Journals when the number of processes changes; running processes are in tests/flows/test_gateway_processes.py."""

from pathlib import Path

import pytest

from penstock.gateway.process import folder_of
from penstock.gateway.processes import adopt_journals


def write(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"{folder.name}/{name}\n")


def test_folders() -> None:
    data = Path("data")
    assert folder_of(data, 0, 1) == data
    assert folder_of(data, 0, 2) == data / "process-0"


@pytest.mark.parametrize("sub", ["", "usage"])
def test_what_fewer_processes_left_goes_to_the_first_in_order(tmp_path: Path, sub: str) -> None:
    write(tmp_path / "process-0" / sub, "000000000007.jsonl")
    write(tmp_path / "process-2" / sub, "000000000001.jsonl", "000000000002.jsonl", "refused.ndjson")
    write(tmp_path / sub, "000000000003.jsonl")
    assert adopt_journals(tmp_path, 2, sub=sub) == 3
    target = tmp_path / "process-0" / sub
    assert sorted(path.name for path in target.iterdir()) == [f"{n:012d}.jsonl" for n in (7, 8, 9, 10)]
    assert (target / "000000000009.jsonl").read_text().endswith("000000000001.jsonl\n")
    assert (target / "000000000010.jsonl").read_text().endswith("000000000002.jsonl\n")
    assert adopt_journals(tmp_path, 2, sub=sub) == 0


def test_one_process_takes_all(tmp_path: Path) -> None:
    write(tmp_path / "process-0", "000000000001.jsonl")
    write(tmp_path / "process-1", "000000000001.jsonl")
    assert adopt_journals(tmp_path, 1, sub="") == 2
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == [f"{n:012d}.jsonl" for n in (1, 2)]
