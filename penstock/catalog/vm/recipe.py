"""How kind ``vm`` is brought up: one allocation on one node, told what to be once its network is there."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from penstock.catalog.base import Compiled, Draft, Known, Place, Spec
from penstock.catalog.vm.spec import ENGINE, FORM, compile_order
from penstock.domain.claim import Grant
from penstock.domain.price import OF_MACHINES, Meter


class VmKind:
    """A virtual machine."""

    name: ClassVar[str] = "vm"
    form: ClassVar[Mapping[str, Any]] = FORM
    movable: ClassVar[bool] = False
    # Its processors, memory and disk, and devices that are passed through.
    meters: ClassVar[tuple[Meter, ...]] = (*OF_MACHINES, Meter.GPU_HOURS)

    def compile(self, spec: Spec, known: Known) -> Compiled:
        """Turn a spec into asks, holds and prices."""
        return compile_order(spec, known)

    def class_holds(self, spec: Spec, device_class: str, known: Known) -> Mapping[str, int]:
        """Return nothing: whoever wants devices names their class."""
        del spec, device_class, known
        return {}

    def drafts(
        self,
        name: str,
        spec: Spec,
        granted: Sequence[Sequence[Grant]],
        places: Mapping[str, Place],
        known: Known,
    ) -> list[Draft]:
        """Return one allocation that waits: the engine of machines tells it the rest (``engine/vm``)."""
        del name, spec, known
        grants = [grant for one in granted for grant in one]
        positions = sorted(
            position
            for grant in grants
            if grant.device_id is not None
            and (position := places[grant.device_id].device_position) is not None
        )
        config: dict[str, Any] = {"waiting": 1, **({"positions": positions} if positions else {})}
        return [Draft(grants[0].node_id, ENGINE, config, tuple(grants))]
