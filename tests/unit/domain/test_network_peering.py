"""Peerings: which prefixes keep apart, and who is shown what."""

import pytest

from penstock.base.errors import ConflictError
from penstock.domain.network_peering import overlap, require_apart, shown

ROW = {"network_id": "a", "peer_network_id": "b", "tenant_id": "ten_a", "peer_tenant_id": "ten_b"}
PREFIXES = {"a": ["10.0.0.0/24"], "b": ["10.1.0.0/24"]}


def test_prefixes_that_share_an_address_are_named() -> None:
    assert overlap(["10.0.0.0/24", "10.1.0.0/24"], ["10.2.0.0/16", "10.1.0.128/25"]) == (
        "10.1.0.0/24",
        "10.1.0.128/25",
    )
    assert overlap(["10.0.0.0/24"], ["10.0.1.0/24"]) is None
    assert overlap([], ["0.0.0.0/0"]) is None
    require_apart(["10.0.0.0/24"], ["10.0.1.0/24"], "prefix")
    with pytest.raises(ConflictError) as refused:
        require_apart(["7.0.0.0/8"], ["7.7.0.0/16"], "prefix")
    assert refused.value.data == {"prefix": "7.0.0.0/8", "other_prefix": "7.7.0.0/16"}


@pytest.mark.parametrize(
    ("state", "tenant_id", "peer_prefixes"),
    [
        ("requested", "ten_a", []),
        ("requested", "ten_b", ["10.1.0.0/24"]),
        ("requested", None, ["10.1.0.0/24"]),
        ("active", "ten_a", ["10.1.0.0/24"]),
    ],
)
def test_a_stranger_learns_nothing_by_asking(
    state: str, tenant_id: str | None, peer_prefixes: list[str]
) -> None:
    seen = shown({**ROW, "state": state}, PREFIXES, tenant_id)
    assert (seen["prefixes"], seen["peer_prefixes"]) == (["10.0.0.0/24"], peer_prefixes)
