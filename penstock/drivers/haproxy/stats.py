"""What HAProxy says of itself on its socket: how members are, and what it counted."""

import csv
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.base.errors import UnavailableError
from penstock.domain.load_balancer import MemberState
from penstock.drivers.haproxy.config import key_of

ASK_SECONDS = 2.0
ANSWER_BYTES_MAX = 1 << 20
_UP, _DRAIN = "UP", "DRAIN"


@dataclass(frozen=True, slots=True)
class Stats:
    """Members by name with state and a word why; what was counted since the process began; connections open now."""

    members: Mapping[str, tuple[str, str]]
    sessions: int
    received_bytes: int
    sent_bytes: int
    open_sessions: int


def ask(path: Path, question: str) -> str:
    """Return what HAProxy answers; UnavailableError if it does not in time."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as opened:
            opened.settimeout(ASK_SECONDS)
            opened.connect(str(path))
            opened.sendall(question.encode("ascii") + b"\n")
            parts: list[bytes] = []
            while part := opened.recv(1 << 16):
                parts.append(part)
                if sum(map(len, parts)) > ANSWER_BYTES_MAX:
                    break
    except OSError as error:
        raise UnavailableError(f"the load balancer's process does not answer: {error}") from error
    return b"".join(parts).decode("ascii", errors="replace")


def read(answer: str) -> Stats:
    """Return what ``show stat`` says."""
    rows = list(csv.DictReader(answer.removeprefix("# ").splitlines()))
    members: dict[str, tuple[str, str]] = {}
    for row in rows:
        # One backend asks the members, the other follows it: whichever has a word about the last check is the first.
        if row["svname"].startswith("m") and (row["svname"] not in members or row.get("check_status")):
            members[row["svname"]] = (_state(row), row.get("check_status", "").lstrip("* "))
    fronts = [row for row in rows if row["svname"] == "FRONTEND"]
    return Stats(
        {key_of(name): said for name, said in members.items()},
        sessions=sum(_number(row, "stot") for row in fronts),
        received_bytes=sum(_number(row, "bin") for row in fronts),
        sent_bytes=sum(_number(row, "bout") for row in fronts),
        open_sessions=sum(_number(row, "scur") for row in fronts),
    )


def _state(row: Mapping[str, str]) -> str:
    status = row["status"]
    if status.startswith(_DRAIN) or (status.startswith(_UP) and row.get("weight") == "0"):
        return MemberState.DRAINING
    if status.startswith(_UP):
        # Before the first check is over it counts as up; whoever reads is told that nothing is known.
        return MemberState.UP if row.get("check_status") != "INI" else MemberState.UNKNOWN
    return MemberState.DOWN


def _number(row: Mapping[str, str], name: str) -> int:
    text = row.get(name, "")
    return int(text) if text.isdigit() else 0
