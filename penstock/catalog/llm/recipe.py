"""How kind ``llm`` is brought up: one engine process per replica."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from penstock.catalog.base import Compiled, Draft, Known, Place, Spec
from penstock.catalog.llm.spec import FORM, compile_order, model_of
from penstock.catalog.replica import draft_of
from penstock.domain.claim import Grant
from penstock.domain.price import Meter


class LlmKind:
    """An OpenAI-compatible endpoint."""

    name: ClassVar[str] = "llm"
    form: ClassVar[Mapping[str, Any]] = FORM
    meters: ClassVar[tuple[Meter, ...]] = (Meter.INPUT_TOKENS, Meter.OUTPUT_TOKENS)
    movable: ClassVar[bool] = True

    def compile(self, spec: Spec, known: Known) -> Compiled:
        """Turn a spec into asks, holds and prices."""
        return compile_order(spec, known)

    def class_holds(self, spec: Spec, device_class: str, known: Known) -> Mapping[str, int]:
        """Return nothing: an endpoint on devices names their class."""
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
        """Return one allocation per replica; clients call the endpoint by the service's name."""
        model_of(spec, known)
        return [draft_of(name, spec, known, grants, places) for grants in granted]
