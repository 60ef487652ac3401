"""What agents and the control plane say to each other over HTTPS, as JSON: a support module, not a driver.

Both sides import it, so there is one place that knows the field names. What an agent sends is checked
strictly: an unknown field, a wrong type or a number out of range is an InvalidInputError that names the
field. What the control plane answers is read leniently where it says more than asked, so that an agent can
be older than its factory.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.domain.device import Attach
from penstock.domain.sleep import PowerState
from penstock.domain.weights import Copy, WeightsState
from penstock.drivers.base import DeviceFacts, NodeFacts, Observed, Phase, Reading, Typed
from penstock.drivers.wire_fields import COUNT_MAX, Fields, fitting

NODES_MAX = 20_000
AGENT_SESSIONS_MAX = 1_024
DEVICES_PER_NODE_MAX = 1_024
NODE_NAME_CHARACTERS_MAX = 253  # a fully qualified host name (RFC 1035)
TOKEN_CHARACTERS_MAX = 256
PEM_CHARACTERS_MAX = 16_384
WATTS_MAX = 100_000  # of one device
CELSIUS_MAX = 250
_DETAILS_MAX = 4_096  # disks, NICs, NUMA nodes and notes of one node

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """``POST /v1/agents/join``: the token is the only credential."""

    token: str
    csr_pem: str
    name: str


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    """The identity of an agent that has joined."""

    agent_id: str
    certificate_pem: str
    ca_pem: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class RenewAnswer:
    """A new certificate for an agent that is known."""

    certificate_pem: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Enrolment:
    """``POST /v1/agents/self/enroll``: what an agent found; ``drivers`` are those that can drive each node.

    ``serve_host`` is where the agent's relay is reached; None where an agent has none.
    """

    site: str
    nodes: Sequence[NodeFacts]
    drivers: Mapping[str, Sequence[str]]
    serve_host: str | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """One allocation as it is wanted: ``wanted`` is ``present`` or ``absent``."""

    allocation_id: str
    node: str
    driver: str
    generation: int
    wanted: str
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wishes:
    """``GET /v1/agents/self/allocations``: all wishes (``full``), or those changed since the cursor asked with."""

    full: bool
    cursor: int
    items: Sequence[Wish]
    typing: bool = False


@dataclass(frozen=True, slots=True)
class Reports:
    """``POST /v1/agents/self/observations``."""

    observations: Sequence[Observed]
    silent_nodes: Sequence[str]


# -- joining


def ca_to_json(ca_pem: str) -> JsonObject:
    """Return the answer to ``GET /v1/agents/ca``."""
    return {"ca_pem": ca_pem}


def ca_from_json(body: object) -> str:
    """Read the factory's authority certificate in PEM."""
    return Fields(body, "").text("ca_pem", PEM_CHARACTERS_MAX)


def join_request_to_json(request: JoinRequest) -> JsonObject:
    """Return the body of a join."""
    return asdict(request)


def join_request_from_json(body: object) -> JoinRequest:
    """Read the body of a join; InvalidInputError names the field."""
    given = Fields(body, "")
    request = JoinRequest(
        token=given.text("token", TOKEN_CHARACTERS_MAX),
        csr_pem=given.text("csr_pem", PEM_CHARACTERS_MAX),
        name=given.text("name", limits.NAME_CHARACTERS_MAX),
    )
    given.refuse_others()
    return request


def join_answer_to_json(answer: JoinAnswer) -> JsonObject:
    """Return the answer to a join."""
    return {**asdict(answer), "expires_at": _instant_text(answer.expires_at)}


def join_answer_from_json(body: object) -> JoinAnswer:
    """Read the answer to a join."""
    given = Fields(body, "")
    return JoinAnswer(
        agent_id=given.text("agent_id", 64),
        certificate_pem=given.text("certificate_pem", PEM_CHARACTERS_MAX),
        ca_pem=given.text("ca_pem", PEM_CHARACTERS_MAX),
        expires_at=_instant(given),
    )


def renew_request_to_json(csr_pem: str) -> JsonObject:
    """Return the body of a renewal."""
    return {"csr_pem": csr_pem}


def renew_request_from_json(body: object) -> str:
    """Read the body of a renewal: the signing request in PEM."""
    given = Fields(body, "")
    csr_pem = given.text("csr_pem", PEM_CHARACTERS_MAX)
    given.refuse_others()
    return csr_pem


def renew_answer_to_json(answer: RenewAnswer) -> JsonObject:
    """Return the answer to a renewal."""
    return {**asdict(answer), "expires_at": _instant_text(answer.expires_at)}


def renew_answer_from_json(body: object) -> RenewAnswer:
    """Read the answer to a renewal."""
    given = Fields(body, "")
    return RenewAnswer(given.text("certificate_pem", PEM_CHARACTERS_MAX), _instant(given))


# -- what is there


def enrolment_to_json(enrolment: Enrolment) -> JsonObject:
    """Return the body of an enrolment."""
    nodes = [
        {**_record(node), "devices": [_record(device) for device in node.devices]}
        | {"drivers": list(enrolment.drivers.get(node.name, ()))}
        for node in enrolment.nodes
    ]
    more = {} if enrolment.serve_host is None else {"serve_host": enrolment.serve_host}
    return {"site": enrolment.site, "nodes": nodes, **more}


def enrolment_from_json(body: object) -> Enrolment:
    """Read an enrolment; InvalidInputError names the field, for example ``nodes.3.devices.0.index``."""
    given = Fields(body, "")
    site = given.text("site", limits.NAME_CHARACTERS_MAX)
    rows = given.objects("nodes", NODES_MAX)
    serve_host = given.optional_text("serve_host", NODE_NAME_CHARACTERS_MAX)
    given.refuse_others()
    nodes: list[NodeFacts] = []
    drivers: dict[str, tuple[str, ...]] = {}
    for row in rows:
        node = _node(row)
        if node.name in drivers:
            raise InvalidInputError("two nodes have the same name", field=row.place("name"))
        drivers[node.name] = tuple(row.texts("drivers", 64, limits.NAME_CHARACTERS_MAX))
        row.refuse_others()
        nodes.append(node)
    return Enrolment(site, tuple(nodes), drivers, serve_host)


def enrolled_to_json(ids: Mapping[str, str]) -> JsonObject:
    """Return the answer to an enrolment: node ids by name."""
    return {"nodes": dict(ids)}


def enrolled_from_json(body: object) -> dict[str, str]:
    """Read the answer to an enrolment: node ids by name."""
    nodes = Fields(body, "").mapping("nodes")
    return {name: Fields({"id": found}, f"nodes.{name}").text("id", 64) for name, found in nodes.items()}


def _node(given: Fields) -> NodeFacts:
    text, count = limits.TEXT_CHARACTERS_MAX, given.count
    name_max = limits.NAME_CHARACTERS_MAX
    return NodeFacts(
        name=given.text("name", NODE_NAME_CHARACTERS_MAX),
        architecture=given.text("architecture", name_max),
        cpu_model=given.text("cpu_model", text, empty=True),
        cpu_cores=count("cpu_cores", COUNT_MAX),
        cpu_threads=count("cpu_threads", COUNT_MAX),
        memory_bytes=count("memory_bytes"),
        numa=tuple(given.plain_objects("numa", _DETAILS_MAX)),
        disks=tuple(given.plain_objects("disks", _DETAILS_MAX)),
        nics=tuple(given.plain_objects("nics", _DETAILS_MAX)),
        devices=tuple(_device(row) for row in given.objects("devices", DEVICES_PER_NODE_MAX)),
        notes=tuple(given.texts("notes", _DETAILS_MAX, text)),
        **{
            name: given.optional_text(name, name_max)
            for name in ("rack", "leaf", "spine", "core", "power_feed")
        },
    )


def _device(given: Fields) -> DeviceFacts:
    text = limits.TEXT_CHARACTERS_MAX
    device = DeviceFacts(
        index=given.count("index", DEVICES_PER_NODE_MAX),
        device_class=given.text("device_class", limits.NAME_CHARACTERS_MAX),
        model=given.text("model", text, empty=True),
        vendor=given.text("vendor", text, empty=True),
        memory_bytes=given.count("memory_bytes"),
        numa_node=given.optional_count("numa_node", COUNT_MAX),
        health=given.choice("health", ("ok", "suspect", "failed"), default="ok"),
        attach=given.choice("attach", tuple(Attach), default=Attach.VFIO),
        **{
            name: given.optional_text(name, text)
            for name in ("serial", "uuid", "pci_address", "nvlink_domain", "mdev_type")
        },
    )
    given.refuse_others()
    return device


# -- what is wanted, and what is


def wishes_to_json(*, full: bool, cursor: int, items: Iterable[Wish], typing: bool = False) -> JsonObject:
    """Return what is wanted of an agent."""
    said: JsonObject = {"full": full, "cursor": cursor, "items": [_record(item) for item in items]}
    return {**said, "typing": 1} if typing else said


def wishes_from_json(body: object) -> Wishes:
    """Read what is wanted; InvalidInputError names the field, and then none of it counts."""
    given = Fields(body, "")
    items = [
        Wish(
            allocation_id=row.text("allocation_id", 64),
            node=row.text("node", NODE_NAME_CHARACTERS_MAX),
            driver=row.text("driver", limits.NAME_CHARACTERS_MAX),
            generation=row.count("generation"),
            wanted=row.choice("wanted", ("present", "absent")),
            config=row.mapping("config"),
        )
        for row in given.objects("items", None)
    ]
    return Wishes(given.flag("full"), given.count("cursor"), items, bool(given.optional_count("typing", 1)))


def reports_to_json(observations: Sequence[Observed], silent_nodes: Sequence[str]) -> JsonObject:
    """Return the body of a push; what a driver says too long or in odd characters is made to fit."""
    rows = [_record(one) for one in observations]
    for row in rows:
        for name, characters_max in (
            ("message", limits.TEXT_CHARACTERS_MAX),
            ("code", limits.NAME_CHARACTERS_MAX),
        ):
            if name in row:
                row[name] = fitting(row[name], characters_max)
    return {"observations": rows, "silent_nodes": list(silent_nodes)}


def reports_from_json(body: object) -> Reports:
    """Read a push; InvalidInputError names the field, for example ``observations.2.phase``."""
    given = Fields(body, "")
    rows = given.objects("observations", limits.AGENT_PULL_BATCH)
    silent = given.texts("silent_nodes", NODES_MAX, NODE_NAME_CHARACTERS_MAX)
    given.refuse_others()
    return Reports(tuple(_observed(row) for row in rows), tuple(silent))


def console_to_json(allocation_id: str, begin: int, content: bytes) -> JsonObject:
    """Return the body that carries a piece of a console."""
    text = base64.b64encode(content).decode()
    return {"allocation_id": allocation_id, "begin": begin, "content_base64": text}


def console_from_json(body: object) -> tuple[str, int, bytes]:
    """Read a piece of a console: allocation, offset, bytes."""
    given = Fields(body, "")
    allocation_id, begin = given.text("allocation_id", 64), given.count("begin")
    content = _bytes(given, 2 * limits.CONSOLE_PIECE_BYTES)
    given.refuse_others()
    return allocation_id, begin, content


def _bytes(given: Fields, characters_max: int) -> bytes:
    try:
        return base64.b64decode(given.text("content_base64", characters_max, empty=True), validate=True)
    except binascii.Error as error:
        raise InvalidInputError("this must be base64", field=given.place("content_base64")) from error


def taken_to_json(taken: Mapping[str, int], wait_seconds: float) -> JsonObject:
    """Return the body that asks for keys: how many bytes of each session were typed, how long to wait for more."""
    return {"taken": dict(taken), "wait_ms": round(wait_seconds * 1_000)}


def taken_from_json(body: object) -> tuple[dict[str, int], float]:
    """Read how much of each session was typed, and for how many seconds to wait for more."""
    given = Fields(body, "")
    taken = given.counts("taken", AGENT_SESSIONS_MAX)
    wait_ms = given.count("wait_ms", round(limits.AGENT_LONG_POLL_SECONDS * 1_000))
    given.refuse_others()
    return taken, wait_ms / 1_000


def typed_to_json(found: Iterable[Typed]) -> JsonObject:
    """Return the keys for an agent's machines."""
    return {
        "sessions": [
            {
                "session_id": one.session_id,
                "allocation_id": one.allocation_id,
                "begin": one.begin,
                "content_base64": base64.b64encode(one.content).decode(),
            }
            for one in found
        ]
    }


def typed_from_json(body: object) -> list[Typed]:
    """Read the keys for this agent's machines."""
    rows = Fields(body, "").objects("sessions", AGENT_SESSIONS_MAX)
    most = 2 * limits.CONSOLE_TYPED_WAITING_BYTES_MAX
    return [
        Typed(
            row.text("session_id", 64), row.text("allocation_id", 64), row.count("begin"), _bytes(row, most)
        )
        for row in rows
    ]


def console_answer_from_json(body: object) -> int:
    """Read the offset that a console goes on from."""
    return Fields(body, "").count("next")


def weights_to_json(copies: Sequence[Copy]) -> JsonObject:
    """Return the body that says what a node has of weights."""
    rows = [_record(copy) for copy in copies]
    for row in rows:
        row["message"] = fitting(row["message"], limits.TEXT_CHARACTERS_MAX)
    return {"copies": rows}


def weights_from_json(body: object) -> list[Copy]:
    """Read what a node has of weights; InvalidInputError names the field."""
    given = Fields(body, "")
    rows = given.objects("copies", limits.WEIGHTS_COPIES_PER_NODE_MAX)
    given.refuse_others()
    return [_copy(row) for row in rows]


def _copy(given: Fields) -> Copy:
    copy = Copy(
        sha256=given.text("sha256", 64),
        state=WeightsState(given.choice("state", tuple(WeightsState))),
        size_bytes=given.count("size_bytes"),
        held_bytes=given.count("held_bytes"),
        in_place=given.flag("in_place"),
        in_use=given.flag("in_use"),
        message=given.text("message", limits.TEXT_CHARACTERS_MAX, empty=True),
    )
    given.refuse_others()
    return copy


def power_to_json(states: Mapping[str, str]) -> dict[str, Any]:
    """Return how nodes are powered, as an agent says it."""
    return {"states": [{"node": node, "state": state} for node, state in states.items()]}


def power_from_json(body: object) -> dict[str, str]:
    """Read how nodes are powered; InvalidInputError names the field."""
    given = Fields(body, "")
    rows = given.objects("states", limits.POWER_REPORT_NODES_MAX)
    given.refuse_others()
    return {row.text("node", 253): row.choice("state", tuple(PowerState)) for row in rows}


def power_wanted_to_json(wanted: Mapping[str, bool]) -> dict[str, Any]:
    """Return which nodes shall be on or off."""
    return {"wanted": [{"node": node, "on": on} for node, on in wanted.items()]}


def power_wanted_from_json(body: object) -> dict[str, bool]:
    """Read which nodes shall be on or off."""
    rows = Fields(body, "").objects("wanted", limits.POWER_REPORT_NODES_MAX)
    return {row.text("node", 253): row.flag("on") for row in rows}


def readings_to_json(readings: Sequence[Reading]) -> dict[str, Any]:
    """Return what devices measure, as an agent says it."""
    return {
        "readings": [
            {"node": one.node, "index": one.index, "watts": one.watts, "celsius": one.celsius}
            for one in readings
        ]
    }


def readings_from_json(body: object) -> list[Reading]:
    """Read what devices measure; InvalidInputError names the field."""
    given = Fields(body, "")
    rows = given.objects("readings", limits.SENSORS_PER_REPORT_MAX)
    given.refuse_others()
    return [
        Reading(
            row.text("node", 253),
            row.count("index", DEVICES_PER_NODE_MAX),
            row.optional_count("watts", WATTS_MAX),
            row.optional_count("celsius", CELSIUS_MAX),
        )
        for row in rows
    ]


def unwanted_from_json(body: object) -> list[str]:
    """Read which copies a node is to give up."""
    return Fields(body, "").texts("unwanted", limits.WEIGHTS_COPIES_PER_NODE_MAX, 64)


def _observed(given: Fields) -> Observed:
    observed = Observed(
        allocation_id=given.text("allocation_id", 64),
        generation=given.count("generation"),
        phase=Phase(given.choice("phase", tuple(Phase))),
        at_us=given.counts("at_us", 16),
        endpoint=given.optional_text("endpoint", limits.TEXT_CHARACTERS_MAX),
        busy_permille=given.optional_count("busy_permille", 1_000),
        code=given.optional_text("code", limits.NAME_CHARACTERS_MAX),
        message=given.optional_text("message", limits.TEXT_CHARACTERS_MAX),
        detail=given.optional_document("detail", limits.OBSERVED_DETAIL_BYTES_MAX),
    )
    given.refuse_others()
    return observed


def _record(thing: Any) -> JsonObject:
    """Return a record's fields by name, one level deep; what is None is left out."""
    found = {field.name: getattr(thing, field.name) for field in fields(thing)}
    return {name: value for name, value in found.items() if value is not None}


def _instant_text(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _instant(given: Fields) -> datetime:
    text = given.text("expires_at", 64)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError(
            "an instant in ISO 8601 with a zone", field=given.place("expires_at")
        ) from error
    if instant.tzinfo is None:
        raise InvalidInputError("an instant in ISO 8601 with a zone", field=given.place("expires_at"))
    return instant.astimezone(UTC)
