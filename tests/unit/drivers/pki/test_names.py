"""How replicas on other machines are named, and that a name leads to one agent's replica or nowhere."""

import pytest

from penstock.drivers.pki import names

# Fixed, because names of parametrised tests must be the same in every process.
AGENT, OTHER = "agt_01kdvdna00qh6dxg7cvmpyemgw", "agt_01kdvdna0015fqb3rfb903kvh4"
REPLICA = "alc_01kdvdna00g6a33h0h5spp6xke"


def test_a_name_leads_back_to_its_replica_at_its_agent_only() -> None:
    name = names.relay_name(REPLICA, AGENT)
    assert name.endswith(".agents.penstock.internal")
    assert max(len(label) for label in name.split(".")) <= 63
    assert "_" not in name
    assert names.allocation_in(name, AGENT) == REPLICA
    assert names.allocation_in(name.upper(), AGENT) == REPLICA
    assert names.allocation_in(name, OTHER) is None


def test_the_wildcard_covers_exactly_one_label() -> None:
    assert names.relay_wildcard(AGENT) == "*." + names.relay_name(REPLICA, AGENT).partition(".")[2]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "control-plane.penstock.internal",
        names.relay_wildcard(AGENT),
        names.relay_name(AGENT, AGENT),
        "x." + names.relay_name(REPLICA, AGENT),
        names.relay_name(REPLICA, AGENT) + ".",
    ],
)
def test_anything_else_is_no_name_of_a_replica(name: str) -> None:
    assert names.allocation_in(name, AGENT) is None
