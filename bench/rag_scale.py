"""Search among many chunks: time and recall against exact search.

The chunks are synthetic, named so, and made from real ones: the vector of each is a mixture of the vectors of two real
chunks (shares 0.5 to 0.95) with noise of a third of its length, its text the first half of one and the second half of
the other, so that words are as frequent as in real text. The questions and their vectors are real. Rows go in by COPY
and the index of vectors is built afterwards, by the definition that each knowledge base has; a knowledge base that
grows document by document has the same index, built more slowly (`inserted_chunks_per_s`).
"""

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, LiteralString

import numpy as np
import orjson
import psycopg
from psycopg import sql

from bench import rag_corpus, support
from penstock.domain.knowledge_base import SIMILARITY_FLOOR_PPM
from penstock.drivers.inference.client import as_text

if TYPE_CHECKING:
    from bench.rag import Bench

DOCUMENT_CHUNKS = 1_000
QUESTIONS = 200
ONE_BY_ONE = 512
WARM = 50
SEED = 7
NOISE = 1 / 3
# What a build needs so that the graph of 100,000 vectors of 384 halves stays in memory.
BUILD_MEMORY = "400MB"
BATCH = 32  # chunks of one transaction, as the indexing engine writes them


def rows(database: psycopg.Connection[Any], query: LiteralString, base_id: str, *values: Any) -> list[Any]:
    """Return what a query says of the chunks of a knowledge base, which it names as {}."""
    place = sql.Identifier("penstock_knowledge", base_id)
    return database.execute(sql.SQL(query).format(place), values).fetchall()


def vectors_of(texts: Sequence[str]) -> Any:
    """Return vectors, (rows, dimensions), from the text form of the database."""
    return np.array([orjson.loads(text) for text in texts], dtype=np.float32)


def mixtures(real: Any, count: int, seed: int) -> tuple[Any, Any]:
    """Return ``count`` synthetic unit vectors, (count, dimensions), and the two real rows each is made of."""
    dice: Any = np.random.default_rng(seed)
    pairs: Any = dice.integers(0, len(real), size=(count, 2))
    share = dice.uniform(0.5, 0.95, size=(count, 1))
    made = share * real[pairs[:, 0]] + (1 - share) * real[pairs[:, 1]]
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    noise = dice.normal(size=made.shape)
    made += NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(np.float32), pairs


def exact(asked: Any, vectors: Any, most: int) -> list[list[int]]:
    """Return for each question the nearest vectors whose cosine is above the floor of searches, nearest first."""
    found: list[list[int]] = []
    for one in asked:
        cosines = vectors @ one
        best = np.argsort(-cosines)[:most]
        found.append([int(i) for i in best if cosines[i] * 1_000_000 >= SIMILARITY_FLOOR_PPM])
    return found


def recall(found: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]) -> float:
    """Return the share of what is wanted that was found, over all questions."""
    hits = sum(len(set(one) & set(best)) for one, best in zip(found, wanted, strict=True))
    return round(hits / sum(map(len, wanted)), 4)


class Scale:
    """One large knowledge base."""

    def __init__(self, bench: "Bench", library: str, count: int) -> None:
        self._bench = bench
        self._database = bench.factory.database()
        query: LiteralString = "SELECT content, vector::text FROM {} ORDER BY document_id, position"
        real = rows(self._database, query, library)
        self._texts: list[str] = [row[0] for row in real]
        self._real = vectors_of([row[1] for row in real])
        self.vectors, self._pairs = mixtures(self._real, count, SEED)
        self.keys = [
            (f"doc_{at // DOCUMENT_CHUNKS:026d}", at % DOCUMENT_CHUNKS) for at in range(len(self.vectors))
        ]
        self._id, self.facts = bench.once("scale", self._fill)

    def _run(self, query: LiteralString, *values: Any) -> None:
        place = sql.Identifier("penstock_knowledge", self._id)
        self._database.execute(sql.SQL(query).format(place), values)

    def _fill(self, base_id: str) -> dict[str, Any]:
        """Write documents and chunks, build the indexes again; return what that took."""
        self._id = base_id
        indexes = self._database.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s", (self._id,)
        ).fetchall()
        later = [(name, made) for name, made in indexes if "hnsw" in made or "gin" in made]
        for name, _ in later:
            self._database.execute(
                sql.SQL("DROP INDEX {}").format(sql.Identifier("penstock_knowledge", name))
            )
        began = time.perf_counter()
        self._copy()
        written = time.perf_counter()
        self._database.execute(sql.SQL("SET maintenance_work_mem = {}").format(BUILD_MEMORY))
        for _, made in later:
            self._database.execute(made)
        self._run("ANALYZE {}")
        ended = time.perf_counter()
        return {
            "write_s": round(written - began, 1),
            "build_s": round(ended - written, 1),
            "inserted_chunks_per_s": self._insert_more(ONE_BY_ONE),
            "index_mb": self._index_megabytes(),
        }

    def _copy(self) -> None:
        for number in range(-(-len(self.keys) // DOCUMENT_CHUNKS)):
            self._document(number)
        self._run("CREATE TEMP TABLE raw (document_id text, position int, content text, vector halfvec)")
        with self._database.cursor() as cursor, cursor.copy("COPY raw FROM STDIN") as copy:
            for key, vector, (first, second) in zip(self.keys, self.vectors, self._pairs, strict=True):
                copy.write_row((*key, self._mixed(int(first), int(second)), as_text(vector)))
        self._run(
            "INSERT INTO {} SELECT document_id, 1, position, '', NULL, 0, length(content), content, "
            "to_tsvector('english', content), vector FROM raw"
        )

    def _mixed(self, first: int, second: int) -> str:
        one, other = self._texts[first], self._texts[second]
        return f"{one[: len(one) // 2]} {other[len(other) // 2 :]}"

    def _document(self, number: int) -> str:
        """Insert a document that is indexed, like one of the small knowledge base; return its id."""
        document_id = f"doc_{number:026d}"
        self._database.execute(
            "INSERT INTO document (id, tenant_id, project_id, knowledge_base_id, name, version, indexed_version, state, "
            "created_by, created_at, updated_at) SELECT %s, tenant_id, project_id, id, %s, 1, 1, 'ready', created_by, "
            "created_at, created_at FROM knowledge_base WHERE id = %s",
            (document_id, f"synthetic-{number}", self._id),
        )
        return document_id

    def _insert_more(self, count: int) -> float:
        """Write chunks in batches, as the indexing engine does, and remove them; return chunks a second."""
        vectors, pairs = mixtures(self._real, count, SEED + 1)
        document = self._document(999_999)
        self._database.execute("SELECT set_config('penstock.scope', '*', false)")
        began = time.perf_counter()
        for start in range(0, count, BATCH):
            chunks = [
                {
                    "position": at,
                    "heading": "",
                    "page": None,
                    "start": 0,
                    "end": 1,
                    "content": self._mixed(int(pairs[at][0]), int(pairs[at][1])),
                    "vector": as_text(vectors[at]),
                }
                for at in range(start, min(count, start + BATCH))
            ]
            self._database.execute(
                "SELECT knowledge_add(%s, %s, 1, 'english', %s::jsonb)",
                (self._id, document, json.dumps(chunks)),
            )
        seconds = time.perf_counter() - began
        self._database.execute("SELECT knowledge_remove(%s, %s, '{}')", (self._id, document))
        return round(count / seconds, 1)

    def ask(self, mode: str, questions: Sequence[str]) -> tuple[list[list[tuple[str, int]]], list[float]]:
        """Return the keys of the passages found for each question, and the seconds each took."""
        found: list[list[tuple[str, int]]] = []
        seconds: list[float] = []
        for question in questions:
            passages, took = self._bench.search(self._id, question, mode)
            found.append([(passage["document_id"], passage["position"]) for passage in passages])
            seconds.append(took)
        return found, seconds

    def _index_megabytes(self) -> float:
        """Return the size of the table's indexes."""
        query = "SELECT pg_indexes_size(tableoid) FROM {} LIMIT 1"
        return support.megabytes(int(rows(self._database, query, self._id)[0][0]))

    def close(self) -> None:
        """Close the connection."""
        self._database.close()


def measure(bench: "Bench", library: str, count: int) -> None:
    """Make a knowledge base of ``count`` chunks, ask it, print."""
    scale = Scale(bench, library, count)
    asked = [one.text for one in rag_corpus.questions(rag_corpus.sections(), QUESTIONS, SEED)]
    wanted = exact(bench.vectors(asked), scale.vectors, 10)
    numbers = {key: number for number, key in enumerate(scale.keys)}
    for mode in ("vector", "text", "hybrid"):
        scale.ask(mode, asked[:WARM])  # what was never read lies on the disk yet
        found, seconds = scale.ask(mode, asked)
        figures: dict[str, Any] = support.spread(seconds)
        if mode == "vector":
            figures["recall_at_10"] = recall([[numbers[key] for key in one] for one in found], wanted)
        support.emit(
            "rag", f"{count} chunks, {mode}", chunks=count, questions=len(asked), **figures, **scale.facts
        )
    scale.close()
