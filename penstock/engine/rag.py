"""The proof that a service of kind ``rag`` works: a first question that goes all the way, before it counts as running.

Once all its engines are ready, a line is embedded, written as a document into the service's own table, found again by its
vector and by its words, taken back, and quoted to the model that answers. The document never leaves its transaction,
so nobody sees it and nothing of it is left. The factory asks for itself: no token of it is billed.
"""

import structlog
from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import UnavailableError
from penstock.base.ids import new_id
from penstock.domain.document import DocumentState
from penstock.domain.passage import messages
from penstock.drivers.inference.client import InferenceClient, Target
from penstock.store import autoscale as autoscale_store
from penstock.store import document as document_store
from penstock.store import endpoint as endpoint_store
from penstock.store import knowledge_base as base_store
from penstock.store.database import SYSTEM, Database
from penstock.store.rows import Row
from penstock.store.wakeups import Wakeups

log = structlog.get_logger(__name__)
PROVED = Counter("penstock_rag_proofs_total", "First questions to new services of kind rag.", ("outcome",))
_LINE = "The penstock carries the water of the reservoir to the turbines."
_QUESTION = "What carries the water to the turbines?"
_TOKENS = 4


class RagEngine:
    """Asks new services their first question."""

    def __init__(self, db: Database, clock: Clock, wakeups: Wakeups, inference: InferenceClient) -> None:
        self._db = db
        self._clock = clock
        self._wakeups = wakeups
        self._inference = inference

    def tick(self) -> int:
        """Ask each service whose parts run all; return how many answered."""
        with self._db.reading() as connection:
            bases = base_store.to_prove(connection, limits.ENGINE_BATCH)
        done = 0
        for base in bases:
            try:
                done += self._prove(base)
            except UnavailableError as error:
                PROVED.labels("failed").inc()
                log.warning("rag_not_proved", service=base["owner_id"], why=error.sentence)
        if done:
            self._wakeups.signal("service")
        return done

    def _prove(self, base: Row) -> int:
        """Ask one; 0 if its shared embedding service sleeps and is woken first. Raises UnavailableError."""
        with self._db.transaction(SYSTEM) as connection:
            embedding = endpoint_store.replicas(connection, base["service_id"], embeds=True)
            answering = endpoint_store.replicas(connection, base["owner_id"])
            needed = autoscale_store.demand(connection, base["service_id"], self._clock.now())
        if needed:
            self._wakeups.signal("autoscale")
        if not embedding or not answering:
            return 0
        vectors = self._inference.embed(
            _target(embedding[0]), [_LINE, _QUESTION], base["dimensions"], embedding[0]["context_tokens"]
        ).vectors
        with self._db.transaction(SYSTEM) as connection:
            passage = self._found(connection, base, *vectors)
        told = self._inference.chat(_target(answering[0]), messages(_QUESTION, [passage]), _TOKENS)
        if told.completion_tokens < 1:
            raise UnavailableError("the model that answers wrote nothing to a first question")
        with self._db.transaction(SYSTEM) as connection:
            base_store.prove(connection, base["id"], self._clock.now())
        PROVED.labels("answered").inc()
        return 1

    def _found(self, connection: Connection, base: Row, line: str, question: str) -> Row:
        """Write the line as a document, find it by both searches, take it back; raises UnavailableError."""
        document_id = new_id("document", self._clock.now())
        inside = connection.begin_nested()
        document_store.insert(connection, self._document(base, document_id))
        chunk = {"position": 0, "heading": "", "page": None, "start": 0, "end": len(_LINE), "content": _LINE}
        base_store.add_chunks(connection, base, document_id, 1, [{**chunk, "vector": line}])
        near = base_store.near(connection, base["id"], question, limits.PASSAGES_DEFAULT)
        # Its own words: a language may know no word of the question.
        words = base_store.with_words(connection, base, _LINE, limits.PASSAGES_DEFAULT)
        inside.rollback()
        for ranking in (near, words):
            if document_id not in {row["document_id"] for row in ranking}:
                raise UnavailableError("a first document was written and not found again")
        return {"document_name": "first question", "heading": "", "page": None, "text": _LINE}

    def _document(self, base: Row, document_id: str) -> Row:
        now = self._clock.now()
        return {
            "id": document_id,
            "tenant_id": base["tenant_id"],
            "project_id": base["project_id"],
            "knowledge_base_id": base["id"],
            "name": document_id,
            "version": 1,
            "indexed_version": 1,
            "state": DocumentState.READY,
            "created_by": "engine",
            "created_at": now,
            "updated_at": now,
        }


def _target(replica: Row) -> Target:
    return Target(replica["url"], replica["model"], replica["service_id"], replica["allocation_id"])
