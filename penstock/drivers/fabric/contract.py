"""The contract of drivers of fabric managers, as tests to inherit: the six verbs, and who is in which partition.

Beside what ``DriverContract`` asks for, the inheriting class gives names of nodes that the manager knows, and means to
look at it and to change it as somebody else would.
"""
# ruff: noqa: S101, D102 - asserting is what a contract suite is for, and a test's name is its sentence

from collections.abc import Iterable, Mapping, Sequence

from penstock.drivers.base import Config, Observed, Phase, Wanted
from penstock.drivers.contract import DriverContract


class FabricDriverContract(DriverContract):
    """Tests that hold for every driver of a fabric manager."""

    next_key = 0

    def nodes(self) -> Sequence[str]:
        """Return the names of three nodes whose ports the manager knows."""
        raise NotImplementedError

    def look(self) -> Mapping[int, set[str]]:
        """Return the full members of every partition by key, as the manager itself says."""
        raise NotImplementedError

    def tamper(self, pkey: int, members: Iterable[str]) -> None:
        """Change who is in a partition, not by the driver."""
        raise NotImplementedError

    def valid_config(self) -> Config:
        """Return a partition of two nodes with a key that nobody has."""
        self.next_key += 1
        return {"pkey": self.next_key, "members": list(self.nodes()[:2])}

    def invalid_config(self) -> tuple[Config, str]:
        """Return one with the key of the default partition."""
        return {"pkey": 0x7FFF, "members": []}, "pkey"

    def _wanted(self, generation: int, pkey: int, members: Sequence[str], one: Wanted) -> Wanted:
        return Wanted(one.allocation_id, generation, {"pkey": pkey, "members": list(members)})

    def _seen(self, allocation_id: str) -> Observed:
        (seen,) = self._of(self.make_driver(), allocation_id)
        return seen

    def test_members_are_those_that_are_wanted_and_nobody_else(self) -> None:
        driver, one = self.make_driver(), self._new_wanted()
        key, names = self.next_key, self.nodes()
        with self._ready(driver, one):
            assert self.look()[key] == set(names[:2])
            for generation, members in enumerate(((names[2], names[0]), (), (names[1],)), start=2):
                wanted = self._wanted(generation, key, members, one)
                answer = self._until(lambda wanted=wanted: driver.ensure(wanted), Phase.READY)
                assert self.look()[key] == set(members)
                assert answer.detail == {"pkey": key, "members": sorted(members)}
                assert self._seen(one.allocation_id).detail == answer.detail
        assert key not in self.look()

    def test_what_others_changed_is_seen_and_mended(self) -> None:
        driver, one = self.make_driver(), self._new_wanted()
        key, names = self.next_key, self.nodes()
        with self._ready(driver, one):
            for found in ({names[2]}, set[str](), {names[0]}):
                self.tamper(key, found)
                assert self._seen(one.allocation_id).detail == {"pkey": key, "members": sorted(found)}
                self._until(lambda: driver.ensure(one), Phase.READY)
                assert self.look()[key] == set(names[:2])

    def test_a_key_is_one_partitions(self) -> None:
        driver, one = self.make_driver(), self._new_wanted()
        key = self.next_key
        with self._ready(driver, one):
            other = self._wanted(1, key, self.nodes()[2:], self._new_wanted())
            refused = self._until(lambda: driver.ensure(other), Phase.FAILED)
            assert refused.code == "key_taken"
            assert self.look()[key] == set(self.nodes()[:2])

    def test_partitions_do_not_touch_each_other(self) -> None:
        driver, one, two = self.make_driver(), self._new_wanted(), self._new_wanted()
        with self._ready(driver, one):
            with self._ready(driver, two):
                assert len(self.look()) == 2
            assert list(self.look().values()) == [set(self.nodes()[:2])]
