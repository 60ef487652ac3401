"""What agents say of the logs of their hosts, as JSON. Checked as strictly as ``wire``."""

from collections.abc import Sequence
from typing import Any

from penstock.base import limits
from penstock.domain.host_log import LEVELS, SOURCES, LogLine
from penstock.drivers.wire_fields import Fields, fitting


def lines_to_json(lines: Sequence[LogLine]) -> dict[str, Any]:
    """Return the body of ``POST /v1/agents/self/log``."""
    rows = [
        {
            "source": one.source,
            "run": one.run,
            "number": one.number,
            "at_us": one.at_us,
            "level": one.level,
            "text": fitting(one.text, limits.HOST_LOG_CHARACTERS_MAX),
        }
        for one in lines
    ]
    return {"lines": rows}


def lines_from_json(body: object) -> list[LogLine]:
    """Read lines; InvalidInputError names the field."""
    given = Fields(body, "")
    found = [_line(row) for row in given.objects("lines", limits.HOST_LOG_REPORT_LINES_MAX)]
    given.refuse_others()
    return found


def _line(row: Fields) -> LogLine:
    line = LogLine(
        row.choice("source", SOURCES),
        row.text("run", limits.NAME_CHARACTERS_MAX),
        row.count("number"),
        row.count("at_us"),
        row.choice("level", LEVELS),
        row.text("text", limits.HOST_LOG_CHARACTERS_MAX, empty=True),
    )
    row.refuse_others()
    return line
