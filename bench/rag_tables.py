"""A table per knowledge base beside one shared table behind row-level security (ADR 0009). Prints one line per layout.

    python -m bench.rag_tables [--bases 20] [--chunks 2000] [--questions 200]

Both hold the same synthetic chunks, named so: vectors around 200 common centres with noise, as tenants who write about
the same things have them, and words of a Zipf-like vocabulary. Questions are vectors near a chunk of their own knowledge
base, asked by a role that owns nothing. Recall is against exact search in that knowledge base. The shared table has the
same indexes and one more, of the knowledge base; its vectors are searched with and without pgvector's iterative scan.
Last, one knowledge base is deleted, and vacuumed where it leaves dead rows.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, LiteralString

import numpy as np
import psycopg
from psycopg import sql

from bench import support
from bench.rag_scale import BUILD_MEMORY, recall
from penstock.base.clock import SystemClock
from penstock.drivers.embedded_postgres.server import EmbeddedPostgres
from penstock.drivers.inference.client import as_text

DIMENSIONS, CENTRES, WORDS, WORDS_OF_CHUNK, MOST = 384, 200, 20_000, 80, 10
COLUMNS = "n int NOT NULL, content text NOT NULL, words tsvector NOT NULL, vector halfvec(384) NOT NULL"
Connection = psycopg.Connection[Any]


class Chunks:
    """The synthetic chunks of all knowledge bases, (bases, chunks, dimensions), and questions about them."""

    def __init__(self, bases: int, chunks: int, questions: int) -> None:
        dice: Any = np.random.default_rng(7)
        centres = dice.normal(size=(CENTRES, DIMENSIONS))
        self.vectors = self._unit(
            centres[dice.integers(0, CENTRES, (bases, chunks))]
            + dice.normal(size=(bases, chunks, DIMENSIONS)) * 0.9
        )
        ranks: Any = np.minimum(dice.zipf(1.3, (bases, chunks, WORDS_OF_CHUNK)), WORDS)
        self.texts = [[" ".join(f"word{rank}" for rank in chunk) for chunk in base] for base in ranks]
        self.asked = dice.integers(0, bases, questions)
        near = self.vectors[self.asked, dice.integers(0, chunks, questions)]
        self.questions = self._unit(near + dice.normal(size=near.shape) * 0.03)
        self.words = [f"word{rank}" for rank in dice.integers(20, 400, questions)]

    @staticmethod
    def _unit(vectors: Any) -> Any:
        return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)

    def exact(self) -> list[list[int]]:
        """Return the nearest chunks of each question in its own knowledge base."""
        return [
            [int(n) for n in np.argsort(-(self.vectors[base] @ question))[:MOST]]
            for base, question in zip(self.asked, self.questions, strict=True)
        ]


def fill(database: Connection, table: str, chunks: Chunks, base: int) -> None:
    """Write the chunks of one knowledge base into a table, which has a column for it if it is the shared one."""
    shared = table == "shared"
    place = sql.Identifier(table)
    with database.cursor() as cursor, cursor.copy("COPY raw FROM STDIN") as copy:
        for n, (text, vector) in enumerate(zip(chunks.texts[base], chunks.vectors[base], strict=True)):
            copy.write_row((n, text, as_text(vector)))
    chosen: LiteralString = "n, content, to_tsvector('simple', content), vector FROM raw"
    column = sql.SQL("{}, ").format(sql.Literal(f"base-{base}")) if shared else sql.SQL("")
    database.execute(sql.SQL("INSERT INTO {} SELECT {}" + chosen).format(place, column))
    database.execute("TRUNCATE raw")


def index(database: Connection, table: str) -> None:
    """Build the indexes that each knowledge base has."""
    place = sql.Identifier(table)
    database.execute(sql.SQL("CREATE INDEX ON {} USING gin (words)").format(place))
    database.execute(sql.SQL("CREATE INDEX ON {} USING hnsw (vector halfvec_cosine_ops)").format(place))
    database.execute(sql.SQL("GRANT SELECT ON {} TO asking").format(place))
    database.execute(sql.SQL("ANALYZE {}").format(place))


def make(database: Connection, chunks: Chunks) -> dict[str, list[str]]:
    """Make both layouts; return the tables of each."""
    bases = range(len(chunks.texts))
    database.execute("CREATE EXTENSION vector")
    database.execute("CREATE ROLE asking")
    database.execute(sql.SQL("SET maintenance_work_mem = {}").format(BUILD_MEMORY))
    database.execute("CREATE TEMP TABLE raw (n int, content text, vector halfvec)")
    for base in bases:
        database.execute(
            sql.SQL("CREATE TABLE {} (" + COLUMNS + ", PRIMARY KEY (n))").format(
                sql.Identifier(f"base-{base}")
            )
        )
        fill(database, f"base-{base}", chunks, base)
        index(database, f"base-{base}")
    database.execute("CREATE TABLE shared (base text NOT NULL, " + COLUMNS + ", PRIMARY KEY (base, n))")
    for base in bases:
        fill(database, "shared", chunks, base)
    index(database, "shared")
    database.execute("ALTER TABLE shared ENABLE ROW LEVEL SECURITY")
    database.execute("CREATE POLICY wall ON shared USING (base = current_setting('bench.scope', true))")
    return {"own": [f"base-{base}" for base in bases], "shared": ["shared"]}


NEAR: LiteralString = "SELECT n FROM {} ORDER BY vector <=> %s::halfvec LIMIT 10"
HOLD: LiteralString = "SELECT n FROM {} WHERE words @@ %s::tsquery LIMIT 50"


def ask(
    database: Connection, chunks: Chunks, tables: Sequence[str], query: LiteralString, values: Sequence[Any]
) -> tuple[list[list[int]], list[float], str]:
    """Ask all questions; return what was found, the seconds each took, and how the first one was done."""
    found: list[list[int]] = []
    seconds: list[float] = []
    plan = ""
    for base, value in zip(chunks.asked, values, strict=True):
        made = sql.SQL(query).format(sql.Identifier(tables[base if len(tables) > 1 else 0]))
        with database.transaction():
            database.execute("SELECT set_config('bench.scope', %s, true)", (f"base-{base}",))
            if not plan:
                told = database.execute(sql.SQL("EXPLAIN ") + made, (value,)).fetchall()
                plan = next(
                    row[0].strip().lstrip("-> ").partition("  (")[0] for row in told if "Scan" in row[0]
                )
            began = time.perf_counter()
            rows = database.execute(made, (value,)).fetchall()
            seconds.append(time.perf_counter() - began)
        found.append([row[0] for row in rows])
    return found, seconds, plan


def deleted(database: Connection, layout: str) -> dict[str, float]:
    """Delete the first knowledge base; return milliseconds, those of the vacuum included that nothing dead is left by."""
    began = time.perf_counter()
    database.execute('DROP TABLE "base-0"' if layout == "own" else "DELETE FROM shared WHERE base = 'base-0'")
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    if layout == "shared":
        database.execute("VACUUM shared")
    return {"delete_ms": round(seconds * 1e3, 1), "vacuum_ms": round((time.perf_counter() - began) * 1e3, 1)}


def size(database: Connection, tables: Sequence[str]) -> float:
    """Return the megabytes of all indexes of some tables."""
    query = "SELECT sum(pg_indexes_size(format('%%I', name)::regclass)) FROM unnest(%s::text[]) AS t (name)"
    row = database.execute(query, (list(tables),)).fetchone()
    return support.megabytes(int(row[0])) if row is not None else 0.0


def compare(database: Connection, chunks: Chunks) -> None:
    """Make, ask and print."""
    layouts, wanted = make(database, chunks), chunks.exact()
    vectors = [as_text(question) for question in chunks.questions]
    for layout, scan in (
        ("own", "off"),
        ("own", "strict_order"),
        ("shared", "off"),
        ("shared", "strict_order"),
    ):
        tables = layouts[layout]
        database.execute("SET ROLE asking")
        database.execute(sql.SQL("SET hnsw.iterative_scan = {}").format(sql.Identifier(scan)))
        ask(database, chunks, tables, NEAR, vectors)  # what was never read lies on the disk yet
        ask(database, chunks, tables, HOLD, chunks.words)
        found, near_s, plan = ask(database, chunks, tables, NEAR, vectors)
        _, words_s, words_plan = ask(database, chunks, tables, HOLD, chunks.words)
        database.execute("RESET ROLE")
        support.emit(
            "rag_tables", f"{layout}, iterative scan {scan}", bases=len(chunks.texts), chunks=chunks.vectors.shape[1],
            vector_p50_ms=round(statistics.median(near_s) * 1e3, 2), recall_at_10=recall(found, wanted), vector_plan=plan,
            words_p50_ms=round(statistics.median(words_s) * 1e3, 2), words_plan=words_plan, index_mb=size(database, tables),
        )  # fmt: skip
    for layout, tables in layouts.items():
        facts = deleted(database, layout)
        left = size(database, tables[1:] if layout == "own" else tables)
        support.emit("rag_tables", f"{layout}, one knowledge base deleted", **facts, index_mb=left)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bases", type=int, default=20)
    parser.add_argument("--chunks", type=int, default=2_000, help="of each knowledge base")
    parser.add_argument("--questions", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-rag-tables-", ignore_cleanup_errors=True) as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres", SystemClock())
        url = server.start()
        try:
            with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as database:
                compare(database, Chunks(options.bases, options.chunks, options.questions))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
