"""The import contract of pyproject.toml finds planted violations; that the package keeps it is `make imports`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.habits.sources import ROOT


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package and its contract, somewhere else."""
    folder = tmp_path_factory.mktemp("imports")
    shutil.copytree(
        ROOT / "penstock", folder / "penstock", ignore=shutil.ignore_patterns("__pycache__", "*.bin")
    )
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint(folder: Path, contract: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            str(Path(sys.executable).parent / "lint-imports"),
            "--no-logo",
            "--no-cache",
            "--contract",
            contract,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )  # fmt: skip - one line a group of arguments


@pytest.mark.parametrize(
    ("contract", "path", "line", "said"),
    [
        ("one-way", "domain/quota.py", "import penstock.store", "penstock.domain.quota -> penstock.store"),
        (
            "one-way",
            "rating/rate.py",
            "import penstock.scheduler",
            "penstock.rating.rate -> penstock.scheduler",
        ),
        ("one-way", "stray.py", "'''In no layer.'''", "stray"),
        (
            "drivers",
            "drivers/ctranslate2/planted.py",
            "import penstock.drivers.embedded_postgres",
            "ctranslate2.planted -> penstock.drivers.embedded_postgres",
        ),
        ("pure", "domain/quota.py", "import socket", "penstock.domain.quota -> socket"),
        ("pure", "scheduler/place.py", "import time", "penstock.scheduler.place -> time"),
        (
            "http-only",
            "gateway/planted.py",
            "import penstock.store",
            "penstock.gateway.planted -> penstock.store",
        ),
    ],
)
def test_a_forbidden_import_is_found(copy: Path, contract: str, path: str, line: str, said: str) -> None:
    victim = copy / "penstock" / path
    before = victim.read_text() if victim.exists() else None
    victim.write_text(f"{before or ''}\n{line}\n")
    try:
        done = lint(copy, contract)
    finally:
        if before is None:
            victim.unlink()
        else:
            victim.write_text(before)
    assert done.returncode == 1
    assert said in done.stdout.replace("\n", " "), done.stdout + done.stderr
