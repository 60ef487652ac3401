"""`penstock twin report`: reads what a study printed, compares two of its policies, writes a page or JSON."""

import argparse
import json
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, cast

from penstock.base import limits
from penstock.base.errors import InvalidInputError, TooLargeError
from penstock.base.units import MICROEUR_PER_EUR, format_eur
from penstock.rating.roi import GPUS_MAX, MICROEUR_PER_GPU_HOUR_MAX, PRICES_MAX
from penstock.twin.report.comparison import Terms, compare, pick
from penstock.twin.report.page import page

_WATTS_MAX = 100_000
_EPILOG = """\
examples:
  penstock twin queue --jobs jobs.csv --nodes 88 --policy easy,penstock --json > study.json
  penstock twin report study.json --a easy --b penstock --price 2.50 --price 7 --html report.html
  penstock twin report ours.json theirs.json --a fgd --b penstock --gpus 6212 --price 2.50 --json"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="penstock twin report",
        description="Two policies of one study side by side: points, hours, kilowatt-hours and euro a year.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "studies",
        type=Path,
        nargs="+",
        metavar="STUDY",
        help="what twin queue, place or topology printed with --json",
    )
    add("--a", required=True, metavar="POLICY", help="what is compared with")
    add("--b", required=True, metavar="POLICY", help="what is compared")
    add("--price", action="append", default=[], metavar="EUR", help="euro per GPU-hour; may be repeated")
    add("--gpus", type=int, help="GPUs that the points are of, where the study does not say")
    add("--idle-watts", type=int, help="what a GPU draws idle; with --load-watts the report has energy")
    add("--load-watts", type=int, help="what a GPU draws under load")
    add("--html", type=Path, metavar="FILE", help="write the page there")
    add("--json", action="store_true", help="print the comparison as JSON")
    return parser


def _price(given: str) -> int:
    try:
        microeur = Decimal(given) * MICROEUR_PER_EUR
        if microeur == microeur.to_integral_value() and 0 < microeur <= MICROEUR_PER_GPU_HOUR_MAX:
            return int(microeur)
    except InvalidOperation:
        pass  # no number at all: said below with the others
    raise InvalidInputError(
        f"--price is '{given[:40]}'; give euro per GPU-hour, at most six decimals, for example 2.50"
    )


def _terms(given: argparse.Namespace) -> Terms:
    if len(given.price) > PRICES_MAX:
        raise InvalidInputError(f"give at most {PRICES_MAX} prices")
    if given.gpus is not None and not 1 <= given.gpus <= GPUS_MAX:
        raise InvalidInputError(f"--gpus must be 1 to {GPUS_MAX:,}")
    watts = (given.idle_watts, given.load_watts)
    if watts == (None, None):
        return Terms([_price(price) for price in given.price], None, given.gpus)
    if None in watts or not 0 <= watts[0] <= watts[1] <= _WATTS_MAX:
        raise InvalidInputError("give --idle-watts and --load-watts together, the first at most the second")
    return Terms([_price(price) for price in given.price], watts, given.gpus)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _results(path: Path) -> list[dict[str, Any]]:
    raw = path.read_bytes()
    if len(raw) > limits.TWIN_FILE_BYTES_MAX:
        raise TooLargeError(f"{path}: more than {limits.TWIN_FILE_BYTES_MAX:,} bytes")
    try:
        document: Any = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"{path}: not JSON ({error}); give what a study printed with --json"
        ) from error
    site: Any = cast("dict[str, Any]", document).get("site") if isinstance(document, dict) else None
    gpus: Any = cast("dict[str, Any]", site).get("gpus") if isinstance(site, dict) else None
    rows: Any = cast("dict[str, Any]", document).get("results") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not rows:
        raise InvalidInputError(f"{path}: has no 'results'; give what a study printed with --json")
    found: list[dict[str, Any]] = []
    for row in cast("list[Any]", rows):
        if not isinstance(row, dict) or not isinstance(cast("dict[str, Any]", row).get("policy"), str):
            raise InvalidInputError(f"{path}: a result is not an object with a policy")
        result = cast("dict[str, Any]", row)
        if (
            result.get("study", "full") == "full"
        ):  # of a study of topology only this has policies side by side
            found.append(result if gpus is None else {"gpus": gpus, **result})
    return found


def run(arguments: list[str]) -> int:
    """Compare and write; return the exit code. Raises InvalidInputError with a sentence for the person who called."""
    given = build_parser().parse_args(arguments)
    terms = _terms(given)
    results = [result for path in given.studies for result in _results(path)]
    comparison = compare(pick(results, given.a), pick(results, given.b), terms)
    if given.html is not None:
        given.html.write_text(page(comparison), encoding="utf-8")
    if given.json:
        print(json.dumps(comparison.to_json(), allow_nan=False))  # noqa: T201 - the answer
        return 0
    for one in comparison.measures:
        print(f"{one.name:<46} {one.a:>10g} {one.b:>10g} {one.unit}")  # noqa: T201 - the answer
    for value in comparison.values:
        price, worth = format_eur(value.microeur_per_gpu_hour), format_eur(value.microeur_per_year, 0)
        print(f"{comparison.points:+.2f} points at {price}/GPU-h: {worth} a year")  # noqa: T201 - the answer
    if given.html is not None:
        print(f"wrote {given.html}")  # noqa: T201 - the answer
    return 0
