"""What was said of the cache of weights is remembered."""

import argparse
from pathlib import Path

import pytest

from penstock.agent import weights_options
from penstock.base.clock import SystemClock
from penstock.base.errors import InvalidInputError, StartupError
from tests.support.weights import HeldSource


def said(folder: Path, *words: str) -> None:
    parser = argparse.ArgumentParser()
    weights_options.add_options(parser)
    weights_options.remember(folder, parser.parse_args(words))


def found(folder: Path) -> tuple[int, bool]:
    cache = weights_options.cache(folder, HeldSource(), SystemClock())
    return cache._bytes_max, cache._in_place


def test_options_are_remembered_one_by_one(tmp_path: Path) -> None:
    assert found(tmp_path) == (0, True)
    said(tmp_path, "--weights-gib", "1.5")
    said(tmp_path)
    assert found(tmp_path) == (3 << 29, True)
    said(tmp_path, "--copy-weights")
    assert found(tmp_path) == (3 << 29, False)
    said(tmp_path, "--no-copy-weights", "--weights-gib", "0")
    assert found(tmp_path) == (0, True)
    with pytest.raises(InvalidInputError):
        said(tmp_path, "--weights-gib", "-1")
    (tmp_path / "weights.json").write_text("{")
    with pytest.raises(StartupError):
        found(tmp_path)
