"""Who looks at the guard's table while an agent takes it away sees nothing, and no error."""

from pathlib import Path
from typing import Any

import pytest

from penstock.base.errors import DriverError
from penstock.drivers.nftables import guard

THERE = {("inet", "filter"), (guard._FAMILY, guard.TABLE)}  # pyright: ignore[reportPrivateUsage] - as the kernel has it


def answers(monkeypatch: pytest.MonkeyPatch, *tables: set[tuple[str, str]]) -> None:
    """Let the kernel have these tables in turn and refuse to list a set."""
    told = iter(tables)

    def refused(*_: Any) -> list[dict[str, Any]]:
        raise DriverError("refused")

    def listed(host: Path | None) -> set[tuple[str, str]]:
        del host
        return next(told)

    monkeypatch.setattr(guard.nft, "tables", listed)
    monkeypatch.setattr(guard, "run", refused)


def test_a_table_that_goes_between_two_questions_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, THERE, set())
    assert guard.owners(None) == {}


def test_a_table_that_is_there_and_refused_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, THERE, THERE)
    with pytest.raises(DriverError):
        guard.owners(None)


def test_none_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, set())
    assert guard.owners(None) == {}
