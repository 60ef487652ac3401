"""How kind ``llm_external`` is brought up: one promise for each server."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from penstock.catalog.base import Compiled, Draft, Known, Place, Spec
from penstock.catalog.llm_external.spec import DRIVER, FORM, compile_order
from penstock.domain.claim import Grant
from penstock.domain.price import Meter


class LlmExternalKind:
    """An OpenAI-compatible endpoint in front of servers elsewhere: keys, limits, books and routing are ours."""

    name: ClassVar[str] = "llm_external"
    form: ClassVar[Mapping[str, Any]] = FORM
    movable: ClassVar[bool] = True
    meters: ClassVar[tuple[Meter, ...]] = (Meter.INPUT_TOKENS, Meter.OUTPUT_TOKENS)

    def compile(self, spec: Spec, known: Known) -> Compiled:
        """Turn a spec into asks, holds and prices."""
        return compile_order(spec, known)

    def class_holds(self, spec: Spec, device_class: str, known: Known) -> Mapping[str, int]:
        """Return nothing: what runs elsewhere holds no devices here."""
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
        """Return one allocation for each server."""
        del name, places, known
        common: dict[str, Any] = {"served_model_name": spec["model"], "slots": spec.get("slots", 0)}
        if spec.get("secret"):
            common["secret"] = spec["secret"]
        return [
            Draft(grants[0].node_id, DRIVER, {"url": url, **common}, tuple(grants))
            for url, grants in zip(spec["urls"], granted, strict=True)
        ]
