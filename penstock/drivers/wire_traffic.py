"""What agents say of packets, as JSON: flows and counters of ports. Checked as strictly as ``wire``."""

from dataclasses import asdict
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.domain.flow import Verdict
from penstock.domain.security_group import PORT_MAX
from penstock.drivers.base import FlowSeen, PortCount, Traffic
from penstock.drivers.wire_fields import Fields

_ID_CHARACTERS_MAX = 64
_RULE_CHARACTERS_MAX = 80
_PROTOCOL_CHARACTERS_MAX = 16
_COUNTS = (
    "received_bytes",
    "received_packets",
    "received_drops",
    "sent_bytes",
    "sent_packets",
    "sent_drops",
)


def traffic_to_json(said: Traffic) -> dict[str, Any]:
    """Return the body of ``POST /v1/agents/self/traffic``."""
    return {
        "flows": [asdict(one) for one in said.flows],
        "counts": [asdict(one) for one in said.counts],
        "lost": said.lost,
    }


def traffic_from_json(body: object) -> Traffic:
    """Read what an agent says of packets; InvalidInputError names the field."""
    given = Fields(body, "")
    flows = [_flow(row) for row in given.objects("flows", limits.FLOWS_PER_REPORT_MAX)]
    counts = [_count(row) for row in given.objects("counts", limits.PORT_COUNTS_PER_REPORT_MAX)]
    lost = given.count("lost")
    given.refuse_others()
    return Traffic(flows, counts, lost)


def _flow(given: Fields) -> FlowSeen:
    found = FlowSeen(
        network_id=given.text("network_id", _ID_CHARACTERS_MAX),
        at_us=given.count("at_us"),
        verdict=given.choice("verdict", tuple(Verdict)),
        rule=given.text("rule", _RULE_CHARACTERS_MAX),
        port_id=given.optional_text("port_id", _ID_CHARACTERS_MAX),
        protocol=given.text("protocol", _PROTOCOL_CHARACTERS_MAX),
        source=_address(given, "source"),
        target=_address(given, "target"),
        source_port=given.optional_count("source_port", PORT_MAX),
        target_port=given.optional_count("target_port", PORT_MAX),
    )
    given.refuse_others()
    return found


def _address(given: Fields, name: str) -> str | None:
    text = given.optional_text(name, 15)
    try:
        return None if text is None else str(IPv4Address(text))
    except AddressValueError as error:
        raise InvalidInputError("an IPv4 address is needed", field=f"flows.{name}") from error


def _count(given: Fields) -> PortCount:
    counted = {name: given.count(name) for name in _COUNTS}
    found = PortCount(port_id=given.text("port_id", _ID_CHARACTERS_MAX), **counted)
    given.refuse_others()
    return found
