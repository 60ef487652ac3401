"""User data is handed on from the driver of machines to that of networks, and to nobody before any is known."""

from collections.abc import Mapping
from typing import cast

from penstock.agent.link import Item
from penstock.agent.user_data import UserData
from penstock.base.errors import InvalidInputError, UnavailableError
from penstock.drivers.base import Config, Driver


class Machines:
    """Says ``tap: data`` of a config as it stands there; an empty config is a bad one."""

    def user_data_of(self, config: Config) -> Mapping[str, bytes]:
        if not config:
            raise InvalidInputError("empty", field="host_name")
        return {tap: str(data).encode() for tap, data in config.items()}


class Networks:
    """Remembers what is to be served."""

    def __init__(self) -> None:
        self.served: list[Mapping[str, bytes]] = []
        self.error: Exception | None = None

    def serve_user_data(self, by_tap: Mapping[str, bytes]) -> None:
        if self.error is not None:
            raise self.error
        self.served.append(dict(by_tap))


def _item(name: str, wanted: str = "present", driver: str = "machines", **config: str) -> Item:
    return Item(name, "hv1", driver, 1, wanted, config)


def _of(**drivers: object) -> UserData:
    return UserData(cast("Mapping[str, Driver]", drivers))


def test_what_machines_that_are_wanted_have_is_served_whole_each_time() -> None:
    networks = Networks()
    user_data = _of(machines=Machines(), networks=networks)
    user_data.serve()
    assert networks.served == [], "nothing is known yet"
    items = [_item("a", tap1="one"), _item("b", tap2="two"), _item("c", "absent", tap3="no"), _item("d")]
    user_data.take([*items, _item("e", driver="other", tap4="no")])
    user_data.serve()
    assert networks.served == [{"tap1": b"one", "tap2": b"two"}] * 2
    user_data.take([])
    assert networks.served[-1] == {}, "the last of them is gone"


def test_who_cannot_serve_now_is_asked_again_and_costs_others_nothing() -> None:
    broken, well = Networks(), Networks()
    user_data = _of(machines=Machines(), broken=broken, well=well)
    broken.error = UnavailableError("no room")
    user_data.take([_item("a", tap1="one")])
    assert (broken.served, well.served) == ([], [{"tap1": b"one"}])
    broken.error = None
    user_data.serve()
    assert broken.served == [{"tap1": b"one"}]


def test_without_machines_or_networks_nothing_is_done() -> None:
    networks = Networks()
    _of(networks=networks).take([_item("a", tap1="one")])
    _of(machines=Machines()).take([_item("a", tap1="one")])
    assert networks.served == []
