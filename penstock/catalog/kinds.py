"""The kinds that this factory can sell, by name."""

from collections.abc import Mapping

from penstock.base.errors import InvalidInputError
from penstock.catalog.base import Kind
from penstock.catalog.gpu.recipe import GpuKind
from penstock.catalog.llm.recipe import LlmKind
from penstock.catalog.llm_external.recipe import LlmExternalKind
from penstock.catalog.rag.recipe import RagKind
from penstock.catalog.vm.recipe import VmKind

KINDS: Mapping[str, Kind] = {
    kind.name: kind for kind in (GpuKind(), LlmKind(), LlmExternalKind(), RagKind(), VmKind())
}


def kind_named(name: str) -> Kind:
    """Return the kind called ``name``; InvalidInputError lists what exists."""
    kind = KINDS.get(name)
    if kind is None:
        raise InvalidInputError(f"no kind of service '{name}'; there are: {', '.join(KINDS)}", field="kind")
    return kind
