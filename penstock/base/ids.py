"""Typed, prefixed, time-ordered identifiers that are stable for life.

An id is ``<prefix>_<26 characters>``: 48 bits of milliseconds and 80 random bits in Crockford base 32
(the ULID layout, https://github.com/ulid/spec), in lower case. Ids made later sort later, so that the
primary-key index grows at one end; within one millisecond this holds inside one process (the specification's
monotonicity), so that what happened at the same moment still has one order.
"""

import os
import re
import threading
from collections.abc import Callable
from datetime import datetime
from typing import NewType

from penstock.base.clock import to_epoch_us

SiteId = NewType("SiteId", str)
RackId = NewType("RackId", str)
NodeId = NewType("NodeId", str)
DeviceId = NewType("DeviceId", str)
PowerFeedId = NewType("PowerFeedId", str)
PowerBudgetId = NewType("PowerBudgetId", str)
AgentId = NewType("AgentId", str)
TenantId = NewType("TenantId", str)
ProjectId = NewType("ProjectId", str)
PrincipalId = NewType("PrincipalId", str)
ApiKeyId = NewType("ApiKeyId", str)
OfferId = NewType("OfferId", str)
PriceBookId = NewType("PriceBookId", str)
ServiceId = NewType("ServiceId", str)
ClaimId = NewType("ClaimId", str)
AllocationId = NewType("AllocationId", str)
DecisionId = NewType("DecisionId", str)
InvoiceId = NewType("InvoiceId", str)
ModelId = NewType("ModelId", str)
KnowledgeBaseId = NewType("KnowledgeBaseId", str)
DocumentId = NewType("DocumentId", str)
DeletionProofId = NewType("DeletionProofId", str)
SshKeyId = NewType("SshKeyId", str)
ImageId = NewType("ImageId", str)
VmSnapshotId = NewType("VmSnapshotId", str)
ConsoleSessionId = NewType("ConsoleSessionId", str)
NetworkId = NewType("NetworkId", str)
SubnetId = NewType("SubnetId", str)
PortId = NewType("PortId", str)
SecurityGroupId = NewType("SecurityGroupId", str)
SecurityRuleId = NewType("SecurityRuleId", str)
AddressPoolId = NewType("AddressPoolId", str)
FloatingAddressId = NewType("FloatingAddressId", str)
DnsRecordId = NewType("DnsRecordId", str)
NetworkRouteId = NewType("NetworkRouteId", str)
NetworkPeeringId = NewType("NetworkPeeringId", str)
FabricPartitionId = NewType("FabricPartitionId", str)
IdentityId = NewType("IdentityId", str)
RateLimitId = NewType("RateLimitId", str)
SecretId = NewType("SecretId", str)
FileId = NewType("FileId", str)
BatchId = NewType("BatchId", str)
ReservationId = NewType("ReservationId", str)
MaintenanceId = NewType("MaintenanceId", str)
WeightsId = NewType("WeightsId", str)
CertificateId = NewType("CertificateId", str)
LoadBalancerId = NewType("LoadBalancerId", str)

PREFIXES: dict[str, str] = {
    "rate_limit": "rlm",
    "ssh_key": "ssh",
    "image": "img",
    "vm_snapshot": "snp",
    "console_session": "cse",
    "volume": "vol",
    "volume_snapshot": "vsn",
    "site": "sit",
    "rack": "rck",
    "node": "nod",
    "device": "dev",
    "power_feed": "pwr",
    "power_budget": "pbu",
    "agent": "agt",
    "join_token": "jtk",
    "tenant": "ten",
    "project": "prj",
    "user": "usr",
    "service_account": "sva",
    "role_binding": "rbd",
    "api_key": "key",
    "quota": "quo",
    "offer": "off",
    "price_book": "pbk",
    "service": "svc",
    "claim": "clm",
    "allocation": "alc",
    "decision": "dec",
    "invoice": "inv",
    "model": "mdl",
    "knowledge_base": "knb",
    "document": "doc",
    "deletion_proof": "dpr",
    "network": "net",
    "subnet": "sub",
    "port": "prt",
    "security_group": "sgr",
    "security_rule": "sgl",
    "address_pool": "apl",
    "floating_address": "fla",
    "dns_record": "dns",
    "network_route": "rte",
    "network_peering": "pee",
    "public_record": "pdr",
    "fabric_partition": "fbp",
    "identity": "idn",
    "secret": "sec",
    "file": "fil",
    "batch": "bat",
    "reservation": "rsv",
    "maintenance": "mnt",
    "weights": "wgt",
    "certificate": "crt",
    "load_balancer": "lbr",
}

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PATTERN = re.compile(r"[a-z]{3}_[0-9a-hjkmnp-tv-z]{26}\Z")

Entropy = Callable[[int], bytes]

_RANDOM_BITS = 80
_STEP_BYTES = 6  # how far the next id of a millisecond may lie: far enough that nobody counts on to it


class _Rising:
    """Numbers of one process that rise, also within a millisecond."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self, now_ms: int) -> int:
        with self._lock:
            if self._last >> _RANDOM_BITS == now_ms:
                self._last += 1 + int.from_bytes(os.urandom(_STEP_BYTES), "big")
            else:  # half of the room is left for those that follow
                self._last = now_ms << _RANDOM_BITS | int.from_bytes(os.urandom(10), "big") >> 1
            return self._last


_rising = _Rising()


def new_id(noun: str, now: datetime, entropy: Entropy | None = None) -> str:
    """Return a fresh id for ``noun`` (a key of ``PREFIXES``), above all that this process made in this millisecond.

    ``entropy(n)`` gives n random bytes instead, with no memory; the twin passes a seeded source. Raises KeyError on an
    unknown noun.
    """
    now_ms = to_epoch_us(now) // 1000
    if entropy is None:
        number = _rising.next(now_ms)
    else:
        number = now_ms << _RANDOM_BITS | int.from_bytes(entropy(10), "big")
    characters = [_ALPHABET[(number >> shift) & 31] for shift in range(125, -5, -5)]
    return PREFIXES[noun] + "_" + "".join(characters)


def is_id(text: str, noun: str) -> bool:
    """Tell whether ``text`` has the form of an id of ``noun``; says nothing about existence."""
    return text.startswith(PREFIXES[noun] + "_") and _PATTERN.match(text) is not None
