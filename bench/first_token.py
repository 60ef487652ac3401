"""From typing `penstock up` to the first real token, by phase, in a fresh data folder and on one used before.

    python -m bench.first_token [--quick]

The environment is set up already. The moments are those at which the command's own lines reach a pipe; the
phases from the order to the first token are those that the service's record stamped, as the command prints
them. What comes after the first token, the bill and the clean stop, is said beside it.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import support

RUNS = 3
TIMEOUT_SECONDS = 180.0
ANSWER = "answer:"
UP = "Penstock is up"
STARTING = "starting: "
BILLED = "first token "
_ROW = re.compile(r"^ *(queued|placed|started|loaded|running|first token) +([0-9.]+) (ms|s) *$")


@dataclass
class Watched:
    """The output of one start: each line with the seconds after which its first piece was there."""

    lines: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    whole: bool = True

    def feed(self, seconds: float, text: str) -> None:
        """Take a piece of the output."""
        for piece in text.splitlines(keepends=True):
            if self.whole:
                self.lines.append((seconds, ""))
            at, begun = self.lines[-1]
            self.lines[-1] = (at, begun + piece.rstrip("\n"))
            self.whole = piece.endswith("\n")

    def at(self, start: str) -> float:
        """Return when the first line that begins so appeared; SystemExit with the output if none did."""
        for seconds, line in self.lines:
            if line.startswith(start):
                return seconds
        output = "\n".join(line for _, line in self.lines)
        raise SystemExit(f"no line begins with '{start}':\n{output}")

    def phases(self) -> dict[str, float]:
        """Return the seconds of each phase up to the first token."""
        up = self.at(UP)
        # Later lines that begin so tell the state of the endpoint, whose phases its own record has.
        marks = [
            (at, line.removeprefix(STARTING))
            for at, line in self.lines
            if line.startswith(STARTING) and at < up
        ]
        marks += [(up, "order and first token")]
        ends = [at for at, _ in marks[1:]] + [self.at(ANSWER)]
        found = {"python": marks[0][0]}
        for (began, name), ended in zip(marks, ends, strict=True):
            found[name] = found.get(name, 0.0) + ended - began
        return {f"phase_{name.replace(' ', '_')}_s": round(seconds, 3) for name, seconds in found.items()}

    def since_order(self) -> dict[str, float]:
        """Return the seconds from the order to each stamp of the service's record."""
        found: dict[str, float] = {}
        for _, line in self.lines:
            row = _ROW.match(line)
            if row is not None:
                seconds = float(row[2]) / (1000 if row[3] == "ms" else 1)
                found[f"order_to_{row[1].replace(' ', '_')}_s"] = round(seconds, 3)
        return found


def command() -> list[str]:
    """Return what a person types: the installed program, else the module."""
    installed = Path(sys.executable).parent / "penstock"
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "penstock"]


def one_start(data: Path) -> dict[str, float]:
    """Start on ``data`` until the first token, and until it has stopped; SystemExit if it failed."""
    arguments = ["up", "--exit-after-first-token", "--no-context", "--data", str(data)]
    arguments += ["--port", "0", "--gateway-port", "0", "--agent-port", "0"]
    watched = Watched()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    process = subprocess.Popen(
        [*command(), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
    )
    assert process.stdout is not None  # noqa: S101 - it was asked for
    with process.stdout:
        while piece := os.read(process.stdout.fileno(), 1 << 16):
            watched.feed(time.monotonic() - began, piece.decode(errors="replace"))
    code = process.wait(TIMEOUT_SECONDS)
    ended = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code != 0:
        raise SystemExit(f"status {code}:\n" + "\n".join(line for _, line in watched.lines))
    return {
        "first_token_s": round(watched.at(ANSWER), 3),
        "up_s": round(watched.at(UP), 3),
        **watched.phases(),
        **watched.since_order(),
        "billed_s": round(watched.at(BILLED), 3),
        "stopped_s": round(ended, 3),
        # Of the command and of those it started and waited for; PostgreSQL is nobody's child.
        "cpu_s": round(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one run, to see that the bench works")
    options = parser.parse_args()
    fresh: list[dict[str, Any]] = []
    again: list[dict[str, Any]] = []
    for _ in range(1 if options.quick else RUNS):
        with tempfile.TemporaryDirectory(prefix="bench-first-token-") as text:
            data = Path(text) / "data"
            try:
                fresh.append(one_start(data))
                again.append(one_start(data))
            finally:
                support.end_left(data)
        print(f"fresh {fresh[-1]}\nagain {again[-1]}", file=sys.stderr, flush=True)
    support.emit("first_token", "fresh data folder", **support.medians(fresh))
    # The second start goes on with the endpoint of the first; its record is of the first order.
    kept = [{name: value for name, value in run.items() if not name.startswith("order_to_")} for run in again]
    support.emit("first_token", "second start", **support.medians(kept))


if __name__ == "__main__":
    main()
