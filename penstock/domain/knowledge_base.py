"""Knowledge bases: what may be searched in, how rankings become one, and what is metered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from penstock.base.ids import PREFIXES

# Languages whose words full-text search knows how to reduce to stems; ``simple`` leaves words as they are.
LANGUAGES = (
    "simple", "danish", "dutch", "english", "finnish", "french", "german", "italian", "norwegian",
    "portuguese", "spanish", "swedish",
)  # fmt: skip
CHUNK_CHARACTERS_MIN = 200
CHUNK_CHARACTERS_MAX = 1_000  # about 256 tokens of English, what the packaged embedding model reads at once
CHUNK_CHARACTERS_DEFAULT = 800
OVERLAP_CHARACTERS_DEFAULT = 120
# What two rankings weigh against each other: Cormack, Clarke and Buettcher (2009) use 60.
FUSION_CONSTANT = 60
# Below this cosine a passage without a word of the question says nothing about it. A first guess, not yet measured on a set of questions.
SIMILARITY_FLOOR_PPM = 300_000


class Mode(StrEnum):
    """How to search."""

    HYBRID = "hybrid"
    VECTOR = "vector"
    TEXT = "text"


class KnowledgeMeter(StrEnum):
    """What a knowledge base is metered by beside the tokens of its embedding service, with its unit."""

    QUERIES = "queries"
    DOCUMENTS_INDEXED = "documents_indexed"
    CHUNKS_INDEXED = "chunks_indexed"
    BYTE_SECONDS = "byte_seconds"  # stored bytes of documents, by the time they were stored
    CHUNK_SECONDS = "chunk_seconds"


def base_id_of(service_id: str) -> str:
    """Return the id of the knowledge base that a service of kind ``rag`` brings: the same but for the prefix."""
    return f"{PREFIXES['knowledge_base']}_{service_id.partition('_')[2]}"


@dataclass(frozen=True, slots=True)
class Ranked:
    """One passage with its place (from 1) in each ranking that has it, and the fused score."""

    key: str
    score: float
    places: Mapping[str, int]


def fuse(rankings: Mapping[str, Sequence[str]], limit: int) -> list[Ranked]:
    """Return at most ``limit`` keys by reciprocal rank fusion of rankings (best first), ties by key.

    The score of a key is the sum of ``1 / (60 + place)`` over the rankings that have it.
    """
    places: dict[str, dict[str, int]] = {}
    for name, ranking in rankings.items():
        for place, key in enumerate(ranking, start=1):
            places.setdefault(key, {}).setdefault(name, place)
    ranked = [
        Ranked(key, sum(1 / (FUSION_CONSTANT + place) for place in found.values()), found)
        for key, found in places.items()
    ]
    return sorted(ranked, key=lambda one: (-one.score, one.key))[:limit]
