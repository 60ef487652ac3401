"""What agents say of how well their hosts are, as JSON. Checked as strictly as ``wire``."""

from collections.abc import Sequence
from typing import Any

from penstock.base import limits
from penstock.drivers.base import Check, CheckState
from penstock.drivers.wire_fields import Fields, fitting


def checks_to_json(checks: Sequence[Check], at_us: int) -> dict[str, Any]:
    """Return the body of ``POST /v1/agents/self/checks``; ``at_us`` is the host's own time."""
    rows = [
        {
            "name": fitting(one.name, limits.NAME_CHARACTERS_MAX),
            "state": one.state.value,
            "message": fitting(one.message, limits.TEXT_CHARACTERS_MAX),
        }
        for one in checks
    ]
    return {"checks": rows, "at_us": at_us}


def checks_from_json(body: object) -> tuple[list[Check], int]:
    """Read what was found and the host's own time; InvalidInputError names the field."""
    given = Fields(body, "")
    states = tuple(state.value for state in CheckState)
    found = [
        Check(
            row.text("name", limits.NAME_CHARACTERS_MAX),
            CheckState(row.choice("state", states)),
            row.text("message", limits.TEXT_CHARACTERS_MAX, empty=True),
        )
        for row in given.objects("checks", limits.HOST_CHECKS_MAX)
    ]
    at_us = given.count("at_us")
    given.refuse_others()
    return found, at_us
