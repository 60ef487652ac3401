"""The contract that every driver keeps, as tests to inherit, and the support table derived from the classes.

A driver's test is about ten lines:

    class TestMine(DriverContract):
        can_reopen = True
        def make_driver(self) -> Driver: return MyDriver(self.folder, SystemClock())
        def valid_config(self) -> Config: return {"size": 1}
        def invalid_config(self) -> tuple[Config, str]: return {"size": -1}, "size"

``make_driver`` is called anew for each driver object, always over the same backend; fixtures of the
inheriting class prepare and clean that backend. This is test support: it asserts, and it imports pytest only
where a test must be skipped, so the package itself does not need pytest.
"""
# ruff: noqa: S101, D102 - asserting is what a contract suite is for, and a test's name is its sentence

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

from penstock.base.clock import SystemClock
from penstock.base.errors import InvalidInputError
from penstock.base.ids import new_id
from penstock.drivers import base
from penstock.drivers.base import Config, Driver, Inventory, Observed, Phase, Wanted


def _new_allocation_id() -> str:
    return new_id("allocation", SystemClock().now())


def option_protocols() -> dict[str, type]:
    """Return the one-method option protocols of ``drivers.base`` by name."""
    return {
        name: found
        for name, found in vars(base).items()
        if isinstance(found, type)
        and found.__module__ == base.__name__
        and getattr(found, "_is_runtime_protocol", False)
    }


def support_table(drivers: Iterable[Driver]) -> list[dict[str, object]]:
    """Return one row per driver: what it is, what it carries, and which options its class implements.

    Nothing is declared twice: the options are the protocols that the class satisfies.
    """
    options = option_protocols()
    rows: list[dict[str, object]] = []
    for driver in drivers:
        capabilities = driver.capabilities()
        rows.append(
            {
                "driver": driver.name,
                "simulated": driver.simulated,
                "kinds": sorted(capabilities.kinds),
                "untested_on_hardware": list(capabilities.untested_on_hardware),
                "options": {name: isinstance(driver, option) for name, option in sorted(options.items())},
            },
        )
    return sorted(rows, key=lambda row: str(row["driver"]))


class DriverContract:
    """Tests that hold for every driver, over whatever backend the inheriting class prepared."""

    can_reopen: bool = True  # False only for a backend that lives in the driver object itself
    steps_max: int = 1_500  # with the default ``wait``, 30 seconds

    def make_driver(self) -> Driver:
        """Return a new driver object over the backend of this test."""
        raise NotImplementedError

    def valid_config(self) -> Config:
        """Return a config that this backend can make real."""
        raise NotImplementedError

    def invalid_config(self) -> tuple[Config, str]:
        """Return a config that must be refused, and the field that the refusal must name."""
        raise NotImplementedError

    def wait(self) -> None:
        """Let the backend work between two calls; a driver on a manual clock moves that instead."""
        time.sleep(0.02)

    # -- helpers

    def _new_wanted(self, generation: int = 1) -> Wanted:
        return Wanted(_new_allocation_id(), generation, self.valid_config())

    def _until(self, call: Callable[[], Observed], phase: Phase) -> Observed:
        for _ in range(self.steps_max):
            observed = call()
            assert observed.phase is not Phase.FAILED or phase is Phase.FAILED, observed
            if observed.phase is phase:
                return observed
            self.wait()
        raise AssertionError(f"did not become {phase} in {self.steps_max} steps: {call()}")

    @contextmanager
    def _ready(self, driver: Driver, wanted: Wanted) -> Generator[Observed]:
        try:
            yield self._until(lambda: driver.ensure(wanted), Phase.READY)
        finally:
            self._until(lambda: self.make_driver_again(driver).remove(wanted.allocation_id), Phase.ABSENT)

    def make_driver_again(self, driver: Driver) -> Driver:
        """Return a driver that knows nothing of the calls before, where the backend allows one."""
        return self.make_driver() if self.can_reopen else driver

    @staticmethod
    def _of(driver: Driver, allocation_id: str) -> list[Observed]:
        return [one for one in driver.observe() if one.allocation_id == allocation_id]

    # -- the contract

    def test_ensure_until_ready_and_remove_until_absent(self) -> None:
        driver, wanted = self.make_driver(), self._new_wanted()
        with self._ready(driver, wanted) as observed:
            assert (observed.allocation_id, observed.generation) == (wanted.allocation_id, 1)
            assert observed.code is None
            assert observed.at_us["started"] <= observed.at_us["ready"]
        assert self._of(driver, wanted.allocation_id) == []

    def test_ensure_of_what_is_there_changes_nothing(self) -> None:
        driver, wanted = self.make_driver(), self._new_wanted()
        with self._ready(driver, wanted) as first:
            for _ in range(3):
                again = driver.ensure(wanted)
                assert again.phase is Phase.READY
                assert (again.at_us, again.endpoint) == (first.at_us, first.endpoint)
            assert len(self._of(driver, wanted.allocation_id)) == 1

    def test_a_newer_generation_is_reported_back(self) -> None:
        driver, wanted = self.make_driver(), self._new_wanted()
        with self._ready(driver, wanted):
            newer = Wanted(wanted.allocation_id, 2, wanted.config)
            assert self._until(lambda: driver.ensure(newer), Phase.READY).generation == 2

    def test_observe_lists_what_exists(self) -> None:
        driver, one, two = self.make_driver(), self._new_wanted(), self._new_wanted()
        with self._ready(driver, one), self._ready(driver, two):
            for wanted in (one, two):
                seen = self._of(driver, wanted.allocation_id)
                assert [(found.generation, found.phase) for found in seen] == [(1, Phase.READY)]

    def test_a_new_driver_object_sees_what_the_old_one_made(self) -> None:
        if not self.can_reopen:
            import pytest  # noqa: PLC0415 - the package itself must not need it

            pytest.skip("this backend lives in the driver object")
        wanted = self._new_wanted()
        with self._ready(self.make_driver(), wanted) as first:
            second = self.make_driver()
            listed = self._until(lambda: self._of(second, wanted.allocation_id)[0], Phase.READY)
            ensured = self._until(lambda: self.make_driver().ensure(wanted), Phase.READY)
            for found in (listed, ensured):
                assert (found.at_us, found.endpoint) == (first.at_us, first.endpoint)

    def test_remove_of_what_never_was_is_absent(self) -> None:
        assert self.make_driver().remove(_new_allocation_id()).phase is Phase.ABSENT

    def test_remove_twice_is_absent_and_ensure_brings_it_back(self) -> None:
        driver, wanted = self.make_driver(), self._new_wanted()
        with self._ready(driver, wanted):
            self._until(lambda: driver.remove(wanted.allocation_id), Phase.ABSENT)
            assert driver.remove(wanted.allocation_id).phase is Phase.ABSENT
            assert self._until(lambda: driver.ensure(wanted), Phase.READY).generation == 1

    def test_remove_in_the_middle_of_ensure_leaves_nothing(self) -> None:
        driver, wanted = self.make_driver(), self._new_wanted()
        driver.ensure(wanted)
        self._until(lambda: driver.remove(wanted.allocation_id), Phase.ABSENT)
        assert self._of(driver, wanted.allocation_id) == []

    def test_validate_accepts_good_and_names_the_bad_field(self) -> None:
        driver = self.make_driver()
        driver.validate(self.valid_config())
        config, field = self.invalid_config()
        assert self._refusal(driver, config).field == field
        assert self._refusal(driver, {**self.valid_config(), "no_such_field": 1}).field == "no_such_field"

    @staticmethod
    def _refusal(driver: Driver, config: Config) -> InvalidInputError:
        before = sorted(one.allocation_id for one in driver.observe())
        try:
            driver.validate(config)
        except InvalidInputError as error:
            assert sorted(one.allocation_id for one in driver.observe()) == before
            return error
        raise AssertionError(f"validate accepted {config}")

    def test_inventory_and_capabilities_are_what_the_class_says(self) -> None:
        driver = self.make_driver()
        inventory = driver.inventory()
        assert isinstance(inventory, Inventory)
        names = [node.name for node in inventory.nodes]
        assert len(names) == len(set(names))
        assert driver.name == type(driver).name
        capabilities = driver.capabilities()
        assert capabilities.simulated == driver.simulated == type(driver).simulated

    def test_the_support_table_is_derived_from_the_class(self) -> None:
        driver = self.make_driver()
        (row,) = support_table([driver])
        options: Any = row["options"]
        for name, option in option_protocols().items():
            methods = [one for one in vars(option) if not one.startswith("_")]
            assert options[name] == all(callable(getattr(driver, one, None)) for one in methods), name
        assert row["kinds"] == sorted(driver.capabilities().kinds)
