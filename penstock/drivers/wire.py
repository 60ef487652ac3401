"""What agents and the control plane say to each other as JSON: written here, read and checked here, by both.

Reading is strict: a wrong type, an unknown field or too long a list is an InvalidInputError that names the
field, so nothing that another machine sends reaches a rule or a statement unchecked. What a control plane
sends may have more fields than this version knows, because it is upgraded before its agents.

Texts that come from a backend (messages, models) are cut to their limit when they are written: one long
message must not make a whole report be refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.drivers.base import DeviceFacts, Json, NodeFacts, Observed, Phase

NODES_MAX = 1_024
DEVICES_MAX = 1_024
PARTS_MAX = 4_096  # disks, NICs or NUMA nodes of one node
NOTES_MAX = 1_024
DRIVERS_MAX = 64
NAME_MAX = 253  # a fully qualified host name (RFC 1035)
TEXT_MAX = limits.TEXT_CHARACTERS_MAX
NUMBER_MAX = (1 << 63) - 1
ITEMS_MAX = 1_000_000
_FIELDS_OF_A_PART_MAX = 32
_INSTANTS_MAX = 16
_OPTIONAL_NODE_TEXTS = ("rack", "leaf", "spine", "core", "power_feed")
_OPTIONAL_DEVICE_TEXTS = ("serial", "uuid", "pci_address", "nvlink_domain")


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an agent says it has: nodes of one site, and by node name the drivers that can be used there."""

    site: str
    simulated: bool
    timezone: str
    nodes: Sequence[NodeFacts]
    drivers: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Wish:
    """One allocation as it travels to its agent; ``wanted`` is ``present`` or ``absent``."""

    id: str
    node: str
    driver: str
    generation: int
    wanted: str
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wishes:
    """The answer to a pull; ``full``: these are all, else what changed since the cursor asked with."""

    full: bool
    cursor: int
    items: Sequence[Wish]


@dataclass(frozen=True, slots=True)
class Report:
    """The body of a push."""

    observations: Sequence[Observed]
    silent_nodes: Sequence[str]


# -- writing


def enrolment_document(enrolment: Enrolment) -> dict[str, Any]:
    """Return the body of an enrolment."""
    return {
        "site": {
            "name": enrolment.site,
            "simulated": enrolment.simulated,
            "timezone": enrolment.timezone,
        },
        "nodes": [node_document(node) for node in enrolment.nodes],
        "drivers": {name: list(drivers) for name, drivers in enrolment.drivers.items()},
    }


def node_document(node: NodeFacts) -> dict[str, Any]:
    """Return a node as JSON."""
    document = {one.name: getattr(node, one.name) for one in fields(node)}
    for name in ("architecture", "cpu_model"):
        document[name] = _cut(document[name])
    for name in ("numa", "disks", "nics"):
        document[name] = [dict(part) for part in document[name]]
    document["devices"] = [device_document(device) for device in node.devices]
    document["notes"] = [_cut(note) for note in node.notes]
    return document


def device_document(device: DeviceFacts) -> dict[str, Any]:
    """Return a device as JSON."""
    document = {one.name: getattr(device, one.name) for one in fields(device)}
    return {name: _cut(value) if isinstance(value, str) else value for name, value in document.items()}


def report_document(observations: Sequence[Observed], silent_nodes: Sequence[str]) -> dict[str, Any]:
    """Return the body of a push."""
    return {
        "observations": [observed_document(one) for one in observations],
        "silent_nodes": list(silent_nodes),
    }


def observed_document(observed: Observed) -> dict[str, Any]:
    """Return an observation as JSON."""
    return {
        "allocation_id": observed.allocation_id,
        "generation": observed.generation,
        "phase": observed.phase.value,
        "at_us": dict(observed.at_us),
        "endpoint": observed.endpoint,
        "busy_permille": observed.busy_permille,
        "code": observed.code if observed.code is None else _cut(observed.code, limits.NAME_CHARACTERS_MAX),
        "message": observed.message if observed.message is None else _cut(observed.message),
    }


def wishes_document(*, full: bool, cursor: int, allocations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the answer to a pull; of each allocation's row only what an agent may know is taken."""
    return {
        "full": full,
        "cursor": cursor,
        "items": [{one.name: row[one.name] for one in fields(Wish)} for row in allocations],
    }


def _cut(text: str, characters_max: int = TEXT_MAX) -> str:
    return text.replace("\0", "")[:characters_max]


# -- reading


def read_enrolment(document: object) -> Enrolment:
    """Check the body of an enrolment; raises InvalidInputError naming the field."""
    body = _Object(document, "", {"site", "nodes", "drivers"})
    site = _Object(body.get("site"), "site", {"name", "simulated", "timezone"})
    nodes = [read_node(node, f"nodes.{n}") for n, node in enumerate(body.array("nodes", NODES_MAX))]
    given = _Object(body.get("drivers"), "drivers", {node.name for node in nodes})
    drivers = {
        name: [
            _text(driver, f"drivers.{name}.{n}", limits.NAME_CHARACTERS_MAX)
            for n, driver in enumerate(given.array(name, DRIVERS_MAX))
        ]
        for name in given.names()
    }
    return Enrolment(
        site.text("name", limits.NAME_CHARACTERS_MAX),
        site.flag("simulated"),
        site.text("timezone", limits.NAME_CHARACTERS_MAX),
        nodes,
        drivers,
    )


def read_node(document: object, place: str = "node") -> NodeFacts:
    """Check a node; raises InvalidInputError naming the field below ``place``."""
    node = _Object(document, place, {one.name for one in fields(NodeFacts)})
    return NodeFacts(
        name=node.text("name", NAME_MAX),
        architecture=node.text("architecture", TEXT_MAX, empty=True),
        cpu_model=node.text("cpu_model", TEXT_MAX, empty=True),
        cpu_cores=node.number("cpu_cores", 1 << 20),
        cpu_threads=node.number("cpu_threads", 1 << 20),
        memory_bytes=node.number("memory_bytes", 1 << 60),
        numa=node.parts("numa"),
        disks=node.parts("disks"),
        nics=node.parts("nics"),
        devices=tuple(
            read_device(device, node.at(f"devices.{n}"))
            for n, device in enumerate(node.array("devices", DEVICES_MAX))
        ),
        notes=node.texts("notes", NOTES_MAX, TEXT_MAX),
        **{name: node.optional_text(name, limits.NAME_CHARACTERS_MAX) for name in _OPTIONAL_NODE_TEXTS},
    )


def read_device(document: object, place: str = "device") -> DeviceFacts:
    """Check a device; raises InvalidInputError naming the field below ``place``."""
    device = _Object(document, place, {one.name for one in fields(DeviceFacts)})
    return DeviceFacts(
        index=device.number("index", DEVICES_MAX - 1),
        device_class=device.text("device_class", limits.NAME_CHARACTERS_MAX, empty=True),
        model=device.text("model", TEXT_MAX, empty=True),
        vendor=device.text("vendor", TEXT_MAX, empty=True),
        memory_bytes=device.number("memory_bytes", 1 << 60),
        numa_node=device.optional_number("numa_node", 1 << 15, low=-1),
        health=device.text("health", limits.NAME_CHARACTERS_MAX),
        **{name: device.optional_text(name, TEXT_MAX) for name in _OPTIONAL_DEVICE_TEXTS},
    )


def read_report(document: object) -> Report:
    """Check the body of a push; raises InvalidInputError naming the field."""
    body = _Object(document, "", {"observations", "silent_nodes"})
    observations = [
        read_observed(one, f"observations.{n}")
        for n, one in enumerate(body.array("observations", limits.AGENT_PULL_BATCH))
    ]
    return Report(observations, body.texts("silent_nodes", NODES_MAX, NAME_MAX))


def read_observed(document: object, place: str = "observation") -> Observed:
    """Check an observation; raises InvalidInputError naming the field below ``place``."""
    seen = _Object(document, place, {one.name for one in fields(Observed)})
    phase = seen.text("phase", limits.NAME_CHARACTERS_MAX)
    if phase not in set(Phase):
        raise InvalidInputError(f"a phase is one of {', '.join(sorted(Phase))}", field=seen.at("phase"))
    instants = _Object(seen.get("at_us"), seen.at("at_us"))
    if len(instants.names()) > _INSTANTS_MAX:
        raise InvalidInputError(f"at most {_INSTANTS_MAX} instants", field=seen.at("at_us"))
    endpoint = seen.optional_text("endpoint", TEXT_MAX)
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise InvalidInputError("an endpoint is an http or https address", field=seen.at("endpoint"))
    return Observed(
        allocation_id=seen.text("allocation_id", limits.NAME_CHARACTERS_MAX),
        generation=seen.number("generation", NUMBER_MAX),
        phase=Phase(phase),
        at_us={
            _text(name, seen.at("at_us"), limits.NAME_CHARACTERS_MAX): instants.number(name, NUMBER_MAX)
            for name in instants.names()
        },
        endpoint=endpoint,
        busy_permille=seen.optional_number("busy_permille", 1_000),
        code=seen.optional_text("code", limits.NAME_CHARACTERS_MAX),
        message=seen.optional_text("message", TEXT_MAX),
    )


def read_wishes(document: object) -> Wishes:
    """Check the answer to a pull; raises InvalidInputError naming the field. More fields than known are fine."""
    body = _Object(document, "")
    items = [_read_wish(item, f"items.{n}") for n, item in enumerate(body.array("items", ITEMS_MAX))]
    return Wishes(body.flag("full"), body.number("cursor", NUMBER_MAX), items)


def _read_wish(document: object, place: str) -> Wish:
    wish = _Object(document, place)
    wanted = wish.text("wanted", limits.NAME_CHARACTERS_MAX)
    if wanted not in {"present", "absent"}:
        raise InvalidInputError("wanted is 'present' or 'absent'", field=wish.at("wanted"))
    return Wish(
        id=wish.text("id", limits.NAME_CHARACTERS_MAX),
        node=wish.text("node", NAME_MAX),
        driver=wish.text("driver", limits.NAME_CHARACTERS_MAX),
        generation=wish.number("generation", NUMBER_MAX),
        wanted=wanted,
        config=_Object(wish.get("config"), wish.at("config")).content,
    )


class _Object:
    """A JSON object at a place in a body; ``known``: the only fields it may have, None if any."""

    def __init__(self, document: object, place: str, known: set[str] | None = None) -> None:
        self._place = place
        if not isinstance(document, dict):
            raise InvalidInputError("a JSON object is needed", field=place or "body")
        self.content = cast("dict[str, Any]", document)
        unknown = sorted(set(self.content) - known) if known is not None else []
        if unknown:
            raise InvalidInputError("this field is not known", field=self.at(unknown[0][:NAME_MAX]))

    def at(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name

    def names(self) -> list[str]:
        return list(self.content)

    def get(self, name: str) -> Any:
        if name not in self.content:
            raise InvalidInputError("this field is needed", field=self.at(name))
        return self.content[name]

    def text(self, name: str, characters_max: int, *, empty: bool = False) -> str:
        return _text(self.get(name), self.at(name), characters_max, empty=empty)

    def optional_text(self, name: str, characters_max: int) -> str | None:
        if self.content.get(name) is None:
            return None
        return self.text(name, characters_max, empty=True)

    def number(self, name: str, high: int, *, low: int = 0) -> int:
        value = self.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InvalidInputError(f"a whole number from {low} to {high} is needed", field=self.at(name))
        return value

    def optional_number(self, name: str, high: int, *, low: int = 0) -> int | None:
        return None if self.content.get(name) is None else self.number(name, high, low=low)

    def flag(self, name: str) -> bool:
        value = self.get(name)
        if not isinstance(value, bool):
            raise InvalidInputError("true or false is needed", field=self.at(name))
        return value

    def array(self, name: str, count_max: int) -> list[object]:
        value = self.get(name)
        if not isinstance(value, list):
            raise InvalidInputError("a list is needed", field=self.at(name))
        found = cast("list[object]", value)
        if len(found) > count_max:
            raise InvalidInputError(f"at most {count_max} entries", field=self.at(name))
        return found

    def texts(self, name: str, count_max: int, characters_max: int) -> tuple[str, ...]:
        return tuple(
            _text(one, self.at(f"{name}.{n}"), characters_max)
            for n, one in enumerate(self.array(name, count_max))
        )

    def parts(self, name: str) -> tuple[Mapping[str, Json], ...]:
        """Return a list of small flat objects: disks, NICs, NUMA nodes."""
        return tuple(_part(one, self.at(f"{name}.{n}")) for n, one in enumerate(self.array(name, PARTS_MAX)))


def _part(document: object, place: str) -> Mapping[str, Json]:
    part = _Object(document, place)
    if len(part.names()) > _FIELDS_OF_A_PART_MAX:
        raise InvalidInputError(f"at most {_FIELDS_OF_A_PART_MAX} fields", field=place)
    for name in part.names():
        _text(name, place, limits.NAME_CHARACTERS_MAX)
        value = part.content[name]
        if isinstance(value, str):
            part.text(name, TEXT_MAX, empty=True)
        elif isinstance(value, int) and not isinstance(value, bool):
            part.number(name, NUMBER_MAX, low=-NUMBER_MAX)
        elif value is not None and not isinstance(value, bool | float):
            raise InvalidInputError("a text, a number, true, false or null is needed", field=part.at(name))
    return part.content


def _text(value: object, field: str, characters_max: int, *, empty: bool = False) -> str:
    if (
        not isinstance(value, str)
        or len(value) > characters_max
        or "\0" in value
        or (not value and not empty)
    ):
        least = 0 if empty else 1
        raise InvalidInputError(f"a text of {least} to {characters_max} characters is needed", field=field)
    return value
