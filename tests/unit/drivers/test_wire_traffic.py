"""What agents say of packets goes over the wire whole, and what is wrong in it is named."""

from typing import Any

import pytest

from penstock.base.errors import InvalidInputError
from penstock.drivers.base import FlowSeen, PortCount, Traffic
from penstock.drivers.wire_traffic import traffic_from_json, traffic_to_json

FLOW = FlowSeen("net_1", 1, "drop", "default-in", None, "icmp", "10.0.0.9", "10.0.0.2", None, None)
SAID = Traffic([FLOW], [PortCount("prt_1", 1, 2, 3, 4, 5, 6)], 7)


def test_what_is_said_arrives() -> None:
    assert traffic_from_json(traffic_to_json(SAID)) == SAID


@pytest.mark.parametrize(
    ("where", "field", "value"),
    [
        ("flows", "verdict", "perhaps"),
        ("flows", "source", "10.0.0"),
        ("flows", "target_port", 65_536),
        ("flows", "at_us", -1),
        ("flows", "unknown", 1),
        ("counts", "received_bytes", "many"),
        ("counts", "port_id", ""),
    ],
)
def test_what_is_wrong_is_named(where: str, field: str, value: Any) -> None:
    body = traffic_to_json(SAID)
    body[where][0][field] = value
    with pytest.raises(InvalidInputError) as refused:
        traffic_from_json(body)
    assert field in str(refused.value.field)
