"""How much of this machine's disk weights of models may take: said once when it joins, remembered."""

import argparse
import json
from pathlib import Path
from typing import Any

from penstock.base.clock import Clock
from penstock.base.errors import InvalidInputError, StartupError
from penstock.base.units import BYTES_PER_GIB
from penstock.drivers.weights.cache import WeightsCache
from penstock.drivers.weights.fetch import WeightsSource

FOLDER = "weights"
_FILE = "weights.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the cache of weights."""
    parser.add_argument(
        "--weights-gib",
        type=float,
        metavar="GIB",
        help="what weights of models may take of the disk at most; remembered (default, and 0: 90 %% of it)",
    )
    parser.add_argument(
        "--copy-weights",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="keep a copy also of models whose folder is on this machine, as on a network file system; remembered",
    )


def remember(state_dir: Path, chosen: argparse.Namespace) -> None:
    """Keep what was said; nothing said keeps what was said before. InvalidInputError if it cannot be."""
    if chosen.weights_gib is None and chosen.copy_weights is None:
        return
    known = _read(state_dir)
    if chosen.weights_gib is not None:
        if not 0 <= chosen.weights_gib <= 1 << 30:
            raise InvalidInputError("--weights-gib is a size in GiB, 0 or more", field="weights_gib")
        known["bytes_max"] = int(chosen.weights_gib * BYTES_PER_GIB)
    if chosen.copy_weights is not None:
        known["copies"] = chosen.copy_weights
    file = state_dir / _FILE
    file.with_suffix(".new").write_text(json.dumps(known))
    file.with_suffix(".new").replace(file)


def _read(state_dir: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((state_dir / _FILE).read_text()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StartupError(
            f"{state_dir / _FILE} cannot be read: {error}; give --weights-gib again"
        ) from error


def cache(state_dir: Path, source: WeightsSource, clock: Clock) -> WeightsCache:
    """Return the cache of this machine, as it was asked for."""
    known = _read(state_dir)
    return WeightsCache(
        state_dir / FOLDER,
        source,
        clock,
        bytes_max=int(known.get("bytes_max", 0)),
        in_place=not known.get("copies", False),
    )
