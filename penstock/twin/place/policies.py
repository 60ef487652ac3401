"""The policies by name, and how each is put together for a workload and a fleet."""

from penstock.base.errors import InvalidInputError
from penstock.scheduler.packing.baselines import BestFit, DotProduct, FirstFit, Packing
from penstock.scheduler.packing.fragment import Fgd
from penstock.scheduler.packing.lookahead import Lookahead, PowerCost, Prospects
from penstock.scheduler.packing.residual import NodeKind
from penstock.scheduler.packing.shape import Mix
from penstock.scheduler.packing.table import Scorer

RANDOM = "random"
POLICIES = (RANDOM, "first-fit", "best-fit", "dot-product", "packing", "fgd", "penstock")


def chosen(names: str) -> list[str]:
    """Return the policies in a comma-separated list; raises InvalidInputError for an unknown or repeated one."""
    found = [name.strip().lower() for name in names.split(",") if name.strip()]
    for name in found:
        if name not in POLICIES:
            raise InvalidInputError(f"there is no policy {name!r}; the policies are {', '.join(POLICIES)}")
    if not found or len(set(found)) != len(found):
        raise InvalidInputError("name each policy once, at least one, separated by commas")
    return found


def scorer(policy: str, mix: Mix, nodes: list[NodeKind], power: PowerCost | None = None) -> Scorer:
    """Return the scorer of ``policy``; random choice needs only to know what fits, only ``penstock`` heeds power."""
    shapes = mix.shapes
    match policy:
        case "best-fit":
            return BestFit(shapes)
        case "dot-product":
            return DotProduct(shapes)
        case "packing":
            return Packing(shapes)
        case "fgd":
            return Fgd(shapes, mix)
        case "penstock":
            return Lookahead(shapes, Prospects(mix, nodes), power)
        case _:
            return FirstFit(shapes)
