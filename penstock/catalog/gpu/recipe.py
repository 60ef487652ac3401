"""How kind ``gpu`` is brought up: one allocation per node, on the devices granted there."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from penstock.catalog.base import Compiled, Draft, Known, Place, Spec
from penstock.catalog.gpu.spec import FORM, class_holds, compile_order
from penstock.domain.claim import Grant
from penstock.domain.price import Meter


class GpuKind:
    """Whole accelerators or slices."""

    name: ClassVar[str] = "gpu"
    form: ClassVar[Mapping[str, Any]] = FORM
    meters: ClassVar[tuple[Meter, ...]] = (Meter.GPU_HOURS,)
    movable: ClassVar[bool] = False

    def compile(self, spec: Spec, known: Known) -> Compiled:
        """Turn a spec into asks, holds and prices."""
        return compile_order(spec, known)

    def class_holds(self, spec: Spec, device_class: str, known: Known) -> Mapping[str, int]:
        """Return the class's own devices or slices, and the memory."""
        return class_holds(spec, device_class, known)

    def drafts(
        self,
        name: str,
        spec: Spec,
        granted: Sequence[Sequence[Grant]],
        places: Mapping[str, Place],
        known: Known,
    ) -> list[Draft]:
        """Return one allocation per node."""
        del name, spec, known
        by_node: dict[str, list[Grant]] = {}
        for grant in (grant for grants in granted for grant in grants):
            by_node.setdefault(grant.node_id, []).append(grant)
        return [
            Draft(
                node_id=node_id,
                driver="simulated",
                config={"node": places[node_id].node_name, "devices": _pieces(grants, places)},
                grants=tuple(grants),
            )
            for node_id, grants in by_node.items()
        ]


def _pieces(grants: Sequence[Grant], places: Mapping[str, Place]) -> list[dict[str, int | None]]:
    """Return each device once: several slices of one device are one mask to whoever drives it."""
    masks: dict[int | None, int] = {}
    for grant in grants:
        position = places[grant.device_id or ""].device_position
        masks[position] = masks.get(position, 0) | grant.mask
    return [{"index": position, "mask": mask} for position, mask in masks.items()]
