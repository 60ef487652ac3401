"""How kind ``llm`` is brought up: one engine process per replica."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from penstock.catalog.base import Compiled, Draft, Known, Place, Spec
from penstock.catalog.llm.spec import ENGINE, FORM, compile_order, model_of
from penstock.domain.claim import Grant
from penstock.domain.price import Meter


class LlmKind:
    """An OpenAI-compatible endpoint."""

    name: ClassVar[str] = "llm"
    form: ClassVar[Mapping[str, Any]] = FORM
    meters: ClassVar[tuple[Meter, ...]] = (Meter.INPUT_TOKENS, Meter.OUTPUT_TOKENS)

    def compile(self, spec: Spec, known: Known) -> Compiled:
        """Turn a spec into asks, holds and prices."""
        return compile_order(spec, known)

    def class_holds(self, spec: Spec, device_class: str, known: Known) -> Mapping[str, int]:
        """Return nothing: endpoints hold no devices yet."""
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
        del places
        model = model_of(spec, known)
        config = {"model_dir": model.folder, "served_model_name": name, "threads": 1, "device": "auto"}
        return [Draft(grants[0].node_id, ENGINE, config, tuple(grants)) for grants in granted]
