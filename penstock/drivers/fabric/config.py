"""What is wanted of a partition: its key, and the names of the nodes whose ports are full members."""

from typing import Any, cast

from penstock.base.errors import InvalidInputError
from penstock.domain.fabric_partition import PKEY_MAX, PKEY_MIN
from penstock.drivers.base import Config

_FIELDS = frozenset({"pkey", "members"})


def check(config: Config) -> tuple[int, list[str]]:
    """Return key and members of a partition's config; InvalidInputError names the field that is wrong."""
    for name in sorted(set(config) - _FIELDS):
        raise InvalidInputError("a partition has no such field", field=name)
    pkey, members = config.get("pkey"), config.get("members")
    if isinstance(pkey, bool) or not isinstance(pkey, int) or not PKEY_MIN <= pkey <= PKEY_MAX:
        raise InvalidInputError(f"a partition key is from {PKEY_MIN} to {PKEY_MAX}", field="pkey")
    if not isinstance(members, list) or not all(isinstance(one, str) for one in cast("list[Any]", members)):
        raise InvalidInputError("members are names of nodes", field="members")
    return pkey, cast("list[str]", members)
