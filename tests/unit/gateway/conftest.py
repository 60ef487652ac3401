"""A gateway's parts on a bench, for the tests of what happens between a client and its engine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_wire import FAST, Bench, Make


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Bench] = []

    def build(**options: Any) -> Bench:
        made.append(Bench(tmp_path, **{"settings": FAST, **options}))
        return made[-1]

    yield build
    for bench in made:
        bench.close()
