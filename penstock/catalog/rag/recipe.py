"""How kind ``rag`` is brought up: its own embedding engine, if it has one, and an engine for each replica that answers.

The order writes the knowledge base itself (``actions/rag_order``); it runs once a first question went all the way
(``engine/rag``), and its end removes the knowledge base with proof.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from penstock.catalog.base import Compiled, Draft, Known, Place, Spec
from penstock.catalog.rag.spec import FORM, compile_order, embedding_name
from penstock.catalog.replica import CTRANSLATE2, draft_of
from penstock.domain.claim import Grant
from penstock.domain.price import OF_KNOWLEDGE, Meter


class RagKind:
    """Documents in, answers with citations out."""

    name: ClassVar[str] = "rag"
    form: ClassVar[Mapping[str, Any]] = FORM
    meters: ClassVar[tuple[Meter, ...]] = (Meter.INPUT_TOKENS, Meter.OUTPUT_TOKENS, *OF_KNOWLEDGE)
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
        """Return one allocation per engine; clients call the service by its name, nobody calls its embedding engine."""
        if spec.get("embedding_service") is not None:
            return [draft_of(name, spec, known, grants, places) for grants in granted]
        own = {"engine": CTRANSLATE2, "model": spec["embedding_model"]}
        first, *others = granted
        return [
            draft_of(embedding_name(name), own, known, first, places),
            *(draft_of(name, spec, known, grants, places) for grants in others),
        ]
