"""The contract of drivers of load balancers, as tests to inherit: the six verbs, and who answers connections.

Beside what ``DriverContract`` asks for, the inheriting class gives a place in a network with two members, and means to
connect and to make a member ill and well again.
"""
# ruff: noqa: S101, D102 - asserting is what a contract suite is for, and a test's name is its sentence

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from penstock.base.clock import SystemClock
from penstock.base.ids import new_id
from penstock.domain.load_balancer import MemberState
from penstock.drivers.base import Driver, Observed, Phase, Wanted
from penstock.drivers.contract import DriverContract

PORT = 80
QUICK_CHECK: Mapping[str, Any] = {"kind": "tcp", "path": None, "interval_ms": 200, "rise": 1, "fall": 1}


def a_balancer(place: Mapping[str, Any], members: Sequence[tuple[str, int]], **more: Any) -> dict[str, Any]:
    """Return a config for a load balancer that is plugged in at ``place``; ``more`` overrides fields."""
    return {
        "load_balancer": new_id("load_balancer", SystemClock().now()),
        **place,
        "algorithm": "roundrobin",
        "listeners": [{"port": PORT, "mode": "tcp"}],
        "members": [{"address": address, "port": port, "weight": 1} for address, port in members],
        "check": dict(QUICK_CHECK),
        **more,
    }


class LoadBalancerDriverContract(DriverContract):
    """Tests that hold for every driver of load balancers."""

    def place(self) -> Mapping[str, Any]:
        """Return where a load balancer is plugged in: bridge, tap, mac, address, prefix_length, gateway, mtu."""
        raise NotImplementedError

    def members(self) -> Sequence[tuple[str, int]]:
        """Return address and port of two members that are well."""
        raise NotImplementedError

    def connect(self, port: int, times: int) -> list[str]:
        """Connect to the load balancer so often; return who answered, ``address:port``, '' for nobody."""
        raise NotImplementedError

    def fall_ill(self, position: int) -> None:
        """Make a member answer nobody."""
        raise NotImplementedError

    def recover(self, position: int) -> None:
        """Make a member answer again."""
        raise NotImplementedError

    def valid_config(self) -> dict[str, Any]:
        """Return a load balancer with two members."""
        return a_balancer(self.place(), self.members())

    def invalid_config(self) -> tuple[dict[str, Any], str]:
        """Return one that listens with TLS and has no certificate."""
        return {
            **self.valid_config(),
            "listeners": [{"port": 443, "mode": "https"}],
        }, "listeners.0.certificate"

    def names(self) -> list[str]:
        """Return the members as ``connect`` names them."""
        return [f"{address}:{port}" for address, port in self.members()]

    def _health(self, driver: Driver, wanted: Wanted) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in self._of(driver, wanted.allocation_id):
            said = cast("Mapping[str, Sequence[str]]", (one.detail or {}).get("health", {}))
            found |= {key: words[0] for key, words in said.items()}
        return found

    def _wait_for(self, holds: Callable[[], bool], what: str) -> None:
        for _ in range(self.steps_max):
            if holds():
                return
            self.wait()
        raise AssertionError(what)

    def _carry(self, driver: Driver, wanted: Wanted) -> Observed:
        return self._until(lambda: driver.ensure(wanted), Phase.READY)

    def test_connections_go_to_members_that_are_well(self) -> None:
        driver, wanted = self.make_driver(), self._new_wanted()
        one, two = self.names()
        with self._ready(driver, wanted):
            self._wait_for(
                lambda: set(self._health(driver, wanted).values()) == {MemberState.UP},
                "members never became well",
            )
            assert set(self.connect(PORT, 4)) == {one, two}
            self.fall_ill(0)
            self._wait_for(
                lambda: self._health(driver, wanted) == {one: MemberState.DOWN, two: MemberState.UP},
                "nobody saw that a member is ill",
            )
            assert set(self.connect(PORT, 4)) == {two}
            again = Wanted(wanted.allocation_id, 2, {**wanted.config, "algorithm": "leastconn"})
            self._carry(driver, again)
            assert set(self.connect(PORT, 4)) == {two}, (
                "what was known of members is not forgotten by a change"
            )
            self.recover(0)
            self._wait_for(
                lambda: set(self._health(driver, again).values()) == {MemberState.UP}, "it never came back"
            )
            assert set(self.connect(PORT, 8)) == {one, two}

    def test_weight_zero_gets_nothing_new_and_no_members_answer_nobody(self) -> None:
        driver, wanted = self.make_driver(), self._new_wanted()
        one, two = self.names()
        with self._ready(driver, wanted):
            members = cast("list[dict[str, Any]]", wanted.config["members"])
            drained = Wanted(
                wanted.allocation_id,
                2,
                {**wanted.config, "members": [{**members[0], "weight": 0}, members[1]]},
            )
            self._carry(driver, drained)
            assert set(self.connect(PORT, 4)) == {two}
            assert self._health(driver, drained)[one] == MemberState.DRAINING
            self._carry(driver, Wanted(wanted.allocation_id, 3, {**wanted.config, "members": []}))
            assert self.connect(PORT, 1) == [""]

    def test_listeners_come_and_go(self) -> None:
        driver, wanted = self.make_driver(), self._new_wanted()
        with self._ready(driver, wanted):
            listeners = [{"port": PORT, "mode": "tcp"}, {"port": 8_080, "mode": "http"}]
            self._carry(driver, Wanted(wanted.allocation_id, 2, {**wanted.config, "listeners": listeners}))
            assert "" not in self.connect(PORT, 2) + self.connect(8_080, 2)
            self._carry(
                driver, Wanted(wanted.allocation_id, 3, {**wanted.config, "listeners": listeners[1:]})
            )
            assert self.connect(PORT, 1) == [""]
            assert "" not in self.connect(8_080, 2)
