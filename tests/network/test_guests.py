"""Where guests come or go and nothing else changes, a host changes that; what stands there is as if all were made anew."""

import json
import subprocess
from typing import Any

import pytest

from penstock.drivers.base import Phase, Wanted
from penstock.drivers.network.contract import ANYTHING, a_network, a_port, a_rule
from penstock.drivers.nftables import driver as driver_module
from penstock.drivers.nftables import guard, nft
from penstock.drivers.nftables.driver import NftablesNetworkDriver
from penstock.drivers.nftables.namespaces import inside, path_of
from tests.support.network_hosts import Fabric, Host

pytestmark = pytest.mark.xdist_group("network")
VNI, ALLOCATION = 7_103, "alc_g".ljust(30, "0")
FIRST, SECOND, THIRD, REMOTE = "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.9"
RULES = [a_rule("sgr_ping", "icmp"), dict(ANYTHING)]


class Site:
    """One host, and what its network is told; ``whole`` counts how often all of it was made."""

    def __init__(self, fabric: Fabric, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host: Host = fabric.host()
        self.driver: NftablesNetworkDriver = self.host.driver()
        self.generation = self.whole = 0
        self.ports: dict[str, dict[str, Any]] = {}
        put = driver_module.guard.put

        def counting(*arguments: Any) -> None:
            self.whole += 1
            put(*arguments)

        monkeypatch.setattr(driver_module.guard, "put", counting)

    def config(self, here: list[str], away: list[str], **more: Any) -> dict[str, Any]:
        """Return the network with guests at these addresses here, and on the other host."""
        underlays = [self.host.underlay, "10.77.0.12"]
        remote = {"slot": 1, "underlay": underlays[1], "addresses": away}
        names = [{"name": f"vm{one[-1]}", "type": "A", "value": one} for one in (*here, *away)]
        ports = [dict(self.ports.setdefault(one, a_port(one, RULES))) for one in here]
        return a_network(VNI, 0, underlays, ports, remotes=[remote] if away else [], records=names, **more)

    def tell(self, here: list[str], away: list[str], **more: Any) -> None:
        """Have it made."""
        self.generation += 1
        wanted = Wanted(ALLOCATION, self.generation, self.config(here, away, **more))
        assert self.driver.ensure(wanted).phase is Phase.READY

    def stands(self) -> dict[str, Any]:
        """Return what the kernel and the name server have of the network."""
        router = self.driver._place(VNI).path

        def said(*command: str) -> Any:
            ran = subprocess.run(["ip", "-j", *command], capture_output=True, check=True)
            return sorted(json.dumps(one, sort_keys=True) for one in json.loads(ran.stdout or b"[]"))

        kinds = (("neigh", "show", "nud", "permanent"), ("route",), ("address",))
        found: dict[str, Any] = {kind[0]: inside(router, lambda kind=kind: said(*kind)) for kind in kinds}
        found["rules"] = [_named(one) for one in nft.run(router, [{"list": {"ruleset": None}}])]
        found["guard"] = guard.owners(self.host.path)
        found["files"] = {
            file.name: file.read_text() for file in self.driver._of(VNI).iterdir() if "hosts" in file.name
        }
        return found


def _named(one: dict[str, Any]) -> dict[str, Any]:
    """Return an object of a table without its number, which is another one each time."""
    return {kind: {k: v for k, v in what.items() if k != "handle"} for kind, what in one.items()}


def test_guests_that_come_and_go_leave_what_a_whole_making_would(
    fabric: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(fabric, monkeypatch)
    site.tell([FIRST], [])
    assert site.whole == 1
    for here, away in (
        ([FIRST, SECOND], []),
        ([FIRST, SECOND, THIRD], [REMOTE]),
        ([FIRST, THIRD], [REMOTE, SECOND]),
    ):
        site.tell(here, away)
        assert site.whole == 1, "only what is of guests was changed"
        quick = site.stands()
        site.driver = site.host.driver()  # it remembers nothing
        site.generation -= 1
        site.tell(here, away)
        assert site.stands() == quick
        site.whole = 1
    guests = [
        site.host.plug(port["tap"], f"pnb{VNI}", port["mac"], port["address"], "10.0.0.1")
        for port in site.config([FIRST, THIRD], [])["ports"]
    ]
    assert guests[0].do("ping", THIRD, "5")


@pytest.mark.parametrize("harm", ["guard", "router"])
def test_what_is_not_as_it_was_made_is_made_whole(
    fabric: Fabric, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    site = Site(fabric, monkeypatch)
    site.tell([FIRST], [])
    if harm == "guard":
        guard.remove(site.host.path)
    else:
        router = path_of(site.driver._place(VNI).router)
        inside(router, lambda: subprocess.run(["ip", "link", "del", "vx"], check=True))
    site.tell([FIRST, SECOND], [REMOTE])
    assert site.whole == 2
    mended = site.stands()
    site.driver = site.host.driver()
    site.tell([FIRST, SECOND], [REMOTE])
    assert site.stands() == mended


def test_anything_else_that_changes_and_any_repair_is_made_whole(
    fabric: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(fabric, monkeypatch)
    site.tell([FIRST], [])
    site.tell([FIRST], [])  # the same once more: somebody changed it there
    assert site.whole == 2
    site.tell([FIRST], [], mtu=1_400)
    assert site.whole == 3
    site.generation -= 1
    site.tell([FIRST, SECOND], [], mtu=1_400)  # no news: this one was made before
    assert site.whole == 4
    moving = site.config([FIRST, SECOND, THIRD], [REMOTE], mtu=1_400)
    moving["ports"][0]["leaving"] = 1
    site.driver.ensure(Wanted(ALLOCATION, site.generation + 1, moving))
    assert site.whole == 5
    site.driver.remove(ALLOCATION)  # it follows the port no longer
