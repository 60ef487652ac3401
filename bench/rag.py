"""Knowledge bases: how well they find, and how fast with 100,000 chunks.

    python -m bench.rag [--quick] [--keep FOLDER]

A whole factory runs with its embedding endpoint, and the questions go over its API on one connection, the vector of
the question and the record of its cost included. *Quality*: the set of `bench/rag_corpus.py`, by words, by vectors and
by both, with exact Okapi BM25 and exact cosine over the same chunks beside it. *Scale*: see `bench/rag_scale.py`.
With --keep, the factory's folder stays, and what was indexed there is not indexed again.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai

from bench import rag_corpus, rag_scale, support
from bench.rag_corpus import Question
from tests.support.factory_process import demo_project

QUESTIONS = 400
SEED = 20_261_128
PASSAGES = 10
CONFLICT = 409
ASKED_AT_ONCE = 100
INDEXED_SECONDS = 900.0
SHOWN_MODES = ("text", "vector", "hybrid")


class Bench:
    """A factory with an embedding endpoint, and a client of its API and gateway."""

    def __init__(self, factory: support.Factory, client: httpx.Client) -> None:
        self.factory = factory
        self.client = client
        self.project = demo_project(client)
        self._made = factory.folder / "made.json"
        order = {"offer": "embedding", "project": self.project, "name": "embedding"}
        answer = client.post("/v1/services", json=order)
        if answer.status_code != CONFLICT:  # one that was kept has the name already
            answer.raise_for_status()
        support.until(self._serves, 60, "the endpoint runs")
        key = client.post(
            "/v1/api-keys", json={"name": "bench", "scopes": ["llm"], "project_id": self.project}
        )
        self._openai = openai.OpenAI(
            base_url=f"{factory.gateway_url}/v1", api_key=key.raise_for_status().json()["api_key"]
        )

    def _serves(self) -> bool:
        services = self.client.get("/v1/services", params={"name": "embedding"}).raise_for_status().json()
        return services["items"][0]["state"] == "running"

    def once(self, name: str, make: Callable[[str], dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        """Return the knowledge base of that name and what ``make`` said of filling it, which happens once."""
        made: dict[str, Any] = json.loads(self._made.read_text()) if self._made.exists() else {}
        if name not in made:
            base_id = self._base(name)
            made[name] = {"id": base_id, "facts": make(base_id)}
            self._made.write_text(json.dumps(made))
        return made[name]["id"], made[name]["facts"]

    def _base(self, name: str) -> str:
        body = {"name": name, "project_id": self.project, "service": "embedding"}
        return str(self.client.post("/v1/knowledge_bases", json=body).raise_for_status().json()["id"])

    def vectors(self, texts: Sequence[str]) -> Any:
        """Return the vectors of texts, (texts, dimensions), as the endpoint makes them."""
        found: list[Any] = []
        for start in range(0, len(texts), ASKED_AT_ONCE):
            batch = list(texts[start : start + ASKED_AT_ONCE])
            found += self._openai.embeddings.create(model="embedding", input=batch).data
        vectors: list[list[float]] = [item.embedding for item in found]
        return np.array(vectors, dtype=np.float32)

    def search(self, base_id: str, query: str, mode: str) -> tuple[list[dict[str, Any]], float]:
        """Return the passages found and the seconds it took."""
        body = {"query": query, "mode": mode, "limit": PASSAGES}
        began = time.perf_counter()
        answer = self.client.post(f"/v1/knowledge_bases/{base_id}/search", json=body)
        seconds = time.perf_counter() - began
        return answer.raise_for_status().json()["passages"], seconds


def index(bench: Bench, base_id: str, documents: Mapping[str, str]) -> dict[str, Any]:
    """Upload documents and wait until searches find them all; return what that took."""
    began = time.perf_counter()
    for name, text in documents.items():
        bench.client.post(
            f"/v1/knowledge_bases/{base_id}/documents",
            params={"name": name},
            content=text.encode(),
            headers={"content-type": "text/html"},
        ).raise_for_status()

    def states() -> dict[str, int]:
        found: dict[str, int] = bench.client.get(f"/v1/knowledge_bases/{base_id}").json()["documents"]
        return found

    support.until(lambda: set(states()) == {"ready"}, INDEXED_SECONDS, "every document is indexed", every=0.5)
    seconds = time.perf_counter() - began
    with bench.factory.database() as database:
        chunks = int(rag_scale.rows(database, "SELECT count(*) FROM {}", base_id)[0][0])
    return {"chunks": chunks, "indexing_s": round(seconds, 1), "chunks_per_s": round(chunks / seconds, 1)}


def references(bench: Bench, base_id: str, asked: Sequence[Question]) -> dict[str, list[int | None]]:
    """Return the places that exact methods give the gold sections, over the same chunks and the same stems."""
    with bench.factory.database() as database:
        rows = rag_scale.rows(
            database,
            "SELECT heading, vector::text, (SELECT json_object_agg(lexeme, cardinality(positions)) FROM unnest(words)) "
            "FROM {}",
            base_id,
        )
        stems = [
            database.execute("SELECT tsvector_to_array(to_tsvector('english', %s))", (one.text,)).fetchone()
            for one in asked
        ]
    headings = [str(row[0]) for row in rows]
    matrix = rag_scale.vectors_of([row[1] for row in rows])
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    okapi = rag_corpus.Bm25([row[2] or {} for row in rows])
    near: Any = np.argsort(-(bench.vectors([one.text for one in asked]) @ matrix.T), axis=1)[:, :PASSAGES]
    places: dict[str, list[int | None]] = {"exact BM25": [], "exact cosine": []}
    for one, words, nearest in zip(asked, stems, near, strict=True):
        best = okapi.best(words[0] if words else [], PASSAGES)
        places["exact BM25"].append(rag_corpus.place_of(one.gold, [headings[i] for i in best]))
        places["exact cosine"].append(rag_corpus.place_of(one.gold, [headings[int(i)] for i in nearest]))
    return places


def measure_quality(bench: Bench, *, quick: bool) -> str:
    """Index the set, ask every question in every mode, print; return the id of the knowledge base."""
    found = rag_corpus.sections()
    if quick:
        found = found[:200]
    asked = rag_corpus.questions(found, 40 if quick else QUESTIONS, SEED)
    documents = rag_corpus.documents(found)
    base_id, indexed = bench.once("library", lambda base_id: index(bench, base_id, documents))
    facts = {"questions": len(asked), "sections": len(found), **indexed}
    for mode in SHOWN_MODES:
        places: list[int | None] = []
        seconds: list[float] = []
        for one in asked:
            passages, took = bench.search(base_id, one.text, mode)
            places.append(rag_corpus.place_of(one.gold, [passage["heading"] for passage in passages]))
            seconds.append(took)
        support.emit("rag", mode, **rag_corpus.quality(places), **support.spread(seconds), **facts)
    for name, places in references(bench, base_id, asked).items():
        support.emit("rag", name, **rag_corpus.quality(places), **facts)
    return base_id


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="little of everything, to see that the bench works"
    )
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="where the factory stays for the next time")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-rag-")))
        factory = stack.enter_context(support.Factory(folder, simulated="1x8:H100"))
        client = stack.enter_context(factory.client(factory.keys().demo))
        bench = Bench(factory, client)
        library = measure_quality(bench, quick=options.quick)
        print("quality is measured; growing to scale", file=sys.stderr, flush=True)
        rag_scale.measure(bench, library, 5_000 if options.quick else options.chunks)


if __name__ == "__main__":
    main()
