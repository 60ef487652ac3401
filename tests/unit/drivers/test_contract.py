"""The support table follows the classes of the drivers."""

from pathlib import Path
from typing import Any

from penstock.base.clock import SystemClock
from penstock.drivers.contract import option_protocols, support_table
from penstock.drivers.ctranslate2.driver import CTranslate2Driver


class Batching(CTranslate2Driver):
    name = "batching"

    def ensure_many(self, wanted: Any) -> Any:
        return [self.ensure(one) for one in wanted]

    def remove_many(self, allocation_ids: Any) -> Any:
        return [self.remove(one) for one in allocation_ids]


def test_the_options_are_the_optional_protocols_of_drivers_base() -> None:
    found = set(option_protocols())
    assert {"EnsuresMany", "InjectsFaults"} <= found
    assert "Driver" not in found


def test_the_support_table_follows_the_classes(tmp_path: Path) -> None:
    clock = SystemClock()
    rows: list[Any] = support_table([CTranslate2Driver(tmp_path, clock), Batching(tmp_path, clock)])
    assert [(row["driver"], row["options"]["EnsuresMany"]) for row in rows] == [
        ("batching", True),
        ("ctranslate2", False),
    ]
    for row in rows:
        assert row["kinds"] == ["llm"]
        assert row["simulated"] is False
        assert row["options"]["InjectsFaults"] is False
        assert row["untested_on_hardware"] == ["cuda"]
