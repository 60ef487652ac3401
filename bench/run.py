"""Runs the benches, keeps every line they print in bench/results/, and shows the quoted figures as a table.

``--save`` also writes bench/figures.json, from which the README's table is made. With ``--only`` the lines of that bench
are replaced and the others stay, if they were measured on the same machine.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
_TIMEOUT_SECONDS = 1_800

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one bench: its JSON lines, how long it took, and what went wrong, empty if nothing."""

    bench: str
    records: Sequence[Record]
    seconds: float
    failure: str


def records_in(output: str) -> list[Record]:
    """Return the JSON objects among the lines of ``output``; other lines are for the person who watches."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def read_spec(folder: Path) -> dict[str, Any]:
    """Return what figures.toml and its continuations (figures_*.toml) say, as if they were one file."""
    spec: dict[str, Any] = {"bench": {}, "support": {}, "figure": []}
    for file in [folder / "figures.toml", *sorted(folder.glob("figures_*.toml"))]:
        part = tomllib.loads(file.read_text())
        spec["bench"] |= part.get("bench", {})
        spec["support"] |= part.get("support", {})
        spec["figure"] += part.get("figure", [])
    return spec


def run_bench(bench: str, arguments: Sequence[str], timeout_seconds: float) -> Outcome:
    """Run one bench in a process of its own; its complaints go straight to the terminal."""
    began = monotonic()
    command = [sys.executable, "-m", f"bench.{bench}", *arguments]
    try:
        done = subprocess.run(
            command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, timeout=timeout_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return Outcome(bench, (), monotonic() - began, f"did not end within {timeout_seconds:.0f} s")
    failure = "" if done.returncode == 0 else f"ended with status {done.returncode}"
    records = records_in(done.stdout)
    if not failure and not records:
        failure = "printed no figure"
    return Outcome(bench, records, monotonic() - began, failure)


def value_of(figure: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> Any:
    """Return the value that an entry of figures.toml names, None if its bench did not print it.

    Raises ValueError if two lines of the bench match: the entry must tell them apart.
    """
    outcome = outcomes.get(figure["bench"])
    wanted = {**figure.get("where", {})}
    if "case" in figure:
        wanted["case"] = figure["case"]
    matching = [
        record
        for record in (outcome.records if outcome else ())
        if figure["field"] in record and all(record.get(name) == value for name, value in wanted.items())
    ]
    if len(matching) > 1:
        raise ValueError(
            f"figures.toml: more than one line matches '{figure['label']}'; add a case or a where"
        )
    return matching[0][figure["field"]] if matching else None


def verdict(figure: Mapping[str, Any], value: Any) -> str:
    """Return how ``value`` stands to the figure's limits, empty if it has none."""
    if value is None:
        return "not measured"

    def reached(limit: float) -> bool:
        return value <= limit if figure.get("at_most") else value >= limit

    if "must" in figure and not reached(figure["must"]):
        return "MISSED"
    if "aim" in figure:
        return "aim reached" if reached(figure["aim"]) else "below the aim"
    return "reached" if "must" in figure else ""


def machine() -> dict[str, object]:
    """Say in words what was measured on; a figure without it means nothing."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}


def quoted(spec: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """Return the README's lines: each figure's entry with its value and verdict."""
    lines: list[dict[str, Any]] = []
    for figure in spec["figure"]:
        value = value_of(figure, outcomes)
        kept = {name: figure[name] for name in ("label", "must", "aim", "at_most", "peer") if name in figure}
        if "peer_case" in figure:
            measured = value_of({**figure, "case": figure["peer_case"]}, outcomes)
            kept["peer"] = f"{figure['peer']}: {'not installed here' if measured is None else measured}"
        lines.append({"bench": figure["bench"], **kept, "value": value, "verdict": verdict(figure, value)})
    return lines


def show(lines: Sequence[Mapping[str, Any]], outcomes: Mapping[str, Outcome]) -> None:
    """Print the figures and what failed."""
    table = Table("figure", "value", "must", "aim", "verdict", "peer")
    for line in lines:
        cells = ("value", "must", "aim", "verdict", "peer")
        table.add_row(line["label"], *("" if line.get(cell) is None else str(line[cell]) for cell in cells))
    console = Console()
    console.print(table)
    for outcome in outcomes.values():
        note = f"FAILED: {outcome.failure}" if outcome.failure else f"{len(outcome.records)} lines"
        console.print(f"{outcome.bench}: {note}, {outcome.seconds:.0f} s")


def main() -> None:
    """Run the benches named in figures.toml, one after the other, and exit with 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", action="store_true", help="write bench/figures.json for the README")
    parser.add_argument("--only", help="run one bench and show its figures alone")
    options = parser.parse_args()
    spec = read_spec(HERE)
    names = [options.only] if options.only else list(spec["bench"])
    (HERE / "results").mkdir(exist_ok=True)
    outcomes: dict[str, Outcome] = {}
    for name in names:
        settings = spec["bench"].get(name, {})
        print(f"== {name}", flush=True)
        outcome = run_bench(
            name, settings.get("arguments", []), settings.get("timeout_seconds", _TIMEOUT_SECONDS)
        )
        outcomes[name] = outcome
        document = {"machine": machine(), "seconds": round(outcome.seconds, 1), "failure": outcome.failure}
        (HERE / "results" / f"{name}.json").write_text(
            json.dumps({**document, "records": outcome.records}, indent=2) + "\n"
        )
    lines = [
        line
        for figure, line in zip(spec["figure"], quoted(spec, outcomes), strict=True)
        if figure["bench"] in outcomes
    ]
    show(lines, outcomes)
    failed = any(outcome.failure for outcome in outcomes.values())
    if options.save:
        save(HERE / "figures.json", spec, lines, failed=failed)
    sys.exit(failed)


def commit() -> str:
    """Return which state of the code is measured; a plus says that it was changed since."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], cwd=HERE, stdout=subprocess.PIPE, text=True, check=False
    )
    return asked.stdout.strip() or "no commit"


def save(file: Path, spec: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], *, failed: bool) -> None:
    """Write the lines to ``file``, beside those of benches that were not run now.

    SystemExit if a bench failed, or if the others were measured on another machine: figures of two machines
    side by side would be compared.
    """
    if failed:
        sys.exit("not saved: a bench failed")
    before: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"figures": [], "commits": {}}
    ran = {line["bench"] for line in lines}
    others = [line for line in before["figures"] if line["bench"] not in ran]
    if others and before["machine"] != machine():
        sys.exit(f"not saved: {file.name} has figures of another machine; run every bench, or remove it")
    order = [figure["label"] for figure in spec["figure"]]
    kept = sorted(
        (line for line in [*others, *lines] if line["label"] in order),
        key=lambda line: order.index(line["label"]),
    )
    commits = {name: before["commits"].get(name, "") for name in {line["bench"] for line in kept}}
    commits |= dict.fromkeys(ran, commit())
    document = {"machine": machine(), "commits": dict(sorted(commits.items())), "figures": kept}
    file.write_text(json.dumps(document, indent=2) + "\n")
    print("wrote bench/figures.json; now: make reference")


if __name__ == "__main__":
    main()
