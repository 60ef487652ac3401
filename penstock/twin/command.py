"""`penstock twin STUDY`: which module runs a study, and how its errors reach a person."""

import sys
from importlib import import_module

from penstock.base.errors import PenstockError

# Each study is imported only when it is asked for.
STUDIES = {
    "place": "penstock.twin.place.command",
    "queue": "penstock.twin.queue.command",
    "topology": "penstock.twin.topology.command",
    "steer": "penstock.twin.steer.command",
    "report": "penstock.twin.report.command",
}
USAGE = """\
usage: penstock twin STUDY [options]

studies:
  place      requests that arrive at a list of nodes: allocation, fragmentation, power, speed by policy
  queue      gang jobs with durations: waits, makespan, utilisation by policy
  topology   gangs in NVLink domains, racks and leaves: occupancy by policy
  steer      device classes by need: premium GPU-hours saved
  report     a comparison of two policies as one page, in points, hours, kWh and euro a year

penstock twin STUDY --help says what a study takes."""


def run(arguments: list[str]) -> int:
    """Run one study; return the exit code (0 fine, 2 bad input, which is said in one line)."""
    study = arguments[0] if arguments else "--help"
    if study in ("-h", "--help"):
        print(USAGE)  # noqa: T201 - the answer to --help
        return 0
    if study not in STUDIES:
        return _refuse(f"there is no study '{study}'; the studies are {', '.join(STUDIES)}")
    try:
        return int(import_module(STUDIES[study]).run(arguments[1:]))
    except PenstockError as error:
        return _refuse(error.sentence)
    except OSError as error:
        return _refuse(f"{error.filename}: {error.strerror or error}; give a file that can be read")


def _refuse(sentence: str) -> int:
    print(f"penstock twin: {sentence}", file=sys.stderr)  # noqa: T201 - the one line a script reads
    return 2
