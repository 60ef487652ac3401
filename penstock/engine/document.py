"""The indexing engine: lease due documents, read, cut and embed them, and switch searches to what is whole.

One ``tick`` works on a few documents for a few batches each, so that a large one holds up nobody. Everything
needed to go on after a kill is in the rows: a document is read and cut again, which gives the same chunks,
and goes on after those that are there. A batch's chunks, its usage record and its progress are one
transaction, so tokens are billed exactly once and for what is stored.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import structlog
from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import InvalidInputError, UnavailableError
from penstock.domain.document import TRANSITIONS, Chunk, DocumentState, cut
from penstock.domain.knowledge_base import KnowledgeMeter
from penstock.domain.quota import Measure, check_call
from penstock.drivers.documents.kinds import Media, media_of
from penstock.drivers.documents.reader import extract
from penstock.drivers.documents.readers import ReadError
from penstock.drivers.inference.client import InferenceClient, Target
from penstock.drivers.web.fetch import Fetcher, FetchError
from penstock.engine.deletion import Deletions
from penstock.store import autoscale as autoscale_store
from penstock.store import document as document_store
from penstock.store import endpoint as endpoint_store
from penstock.store import event as event_store
from penstock.store import knowledge_base as base_store
from penstock.store import quota as quota_store
from penstock.store.database import SYSTEM, Database
from penstock.store.rows import Row
from penstock.store.wakeups import Wakeups

log = structlog.get_logger(__name__)
DOCUMENTS = Counter("penstock_documents_total", "Documents by what became of them.", ("outcome",))
CHUNKS = Counter("penstock_chunks_indexed_total", "Chunks that were embedded and stored.")
WAIT_TIME = timedelta(seconds=2)
METER_SECONDS = 300


class _NoRoomError(Exception):
    """The document's chunks do not fit the quota; its text is the sentence."""


class _Fenced(Exception):  # noqa: N818 - a signal inside this file, never seen outside
    """Somebody asked for something else of the document meanwhile, or the lease is another's."""


class DocumentEngine:
    """Moves documents towards what is wanted of them."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        wakeups: Wakeups,
        inference: InferenceClient,
        deletions: Deletions,
        *,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._wakeups = wakeups
        self._inference = inference
        self._deletions = deletions
        self._fetcher = fetcher or Fetcher()

    def recover(self) -> None:
        """Take over what a killed process leased; only for a process that knows it is the only engine."""
        with self._db.transaction(SYSTEM) as connection:
            document_store.end_leases(connection)

    def tick(self) -> int:
        """Work on the documents that are due, remove what is to be removed, meter what is stored."""
        token = os.urandom(12).hex()
        now = self._clock.now()
        with self._db.transaction(SYSTEM) as connection:
            rows = document_store.lease(
                connection,
                now,
                token,
                limits.KNOWLEDGE_DOCUMENTS_PER_TURN,
                limits.KNOWLEDGE_LEASE_TIME,
                deletions=self._deletions.able,
            )
        for row in rows:
            self._work(row, token)
        done = len(rows) + self._deletions.finish_bases()
        with self._db.transaction(SYSTEM) as connection:
            base_store.meter_stored(connection, self._clock.now(), METER_SECONDS, limits.ENGINE_BATCH)
        if done:
            self._wakeups.signal("event")
        return done

    def _work(self, row: Row, token: str) -> None:
        try:
            if row["wanted"] == "deleted":
                self._deletions.remove_document(row, token)
            else:
                self._index(row, token)
        except _Fenced:
            log.info("document_fenced", document=row["id"])
        except UnavailableError as error:
            self._wait(row, token, "embedding_service", error.sentence)
        except _NoRoomError as error:
            self._wait(row, token, "chunk_quota", str(error))
        except (ReadError, FetchError, InvalidInputError) as error:
            code = error.code if isinstance(error, ReadError) else "not_fetched"
            self._fail(
                row, token, code if not isinstance(error, InvalidInputError) else "corrupt", error.sentence
            )
        finally:
            with self._db.transaction(SYSTEM) as connection:
                document_store.end_lease(connection, row["id"], token)

    def _index(self, row: Row, token: str) -> None:
        data, media = self._content(row, token)
        with self._db.transaction(SYSTEM) as connection:
            base = base_store.get(connection, row["knowledge_base_id"])
            replicas = (
                [] if base is None else endpoint_store.replicas(connection, base["service_id"], embeds=True)
            )
            needed = base is not None and autoscale_store.demand(
                connection, base["service_id"], self._clock.now()
            )
            lines = quota_store.lines_for_order(
                connection, row["tenant_id"], row["project_id"], (), self._clock.now()
            )
            breach = check_call(lines)
        if needed:
            self._wakeups.signal("autoscale")
        if base is None:
            return
        if breach is not None:
            self._wait(row, token, "quota", breach.sentence)
            return
        if not replicas:
            self._wait(row, token, "embedding_service", "the embedding service is not running")
            return
        extracted = extract(data, media)
        chunks = cut(extracted, base["chunk_characters"], base["overlap_characters"])
        if len(chunks) > limits.CHUNKS_PER_DOCUMENT_MAX:
            raise ReadError("too_large", f"it makes more than {limits.CHUNKS_PER_DOCUMENT_MAX:,} chunks")
        if not chunks:
            raise ReadError("no_text", "there is no text in it")
        facts = {"pages": extracted.pages, "characters": len(extracted.text), "chunks_total": len(chunks)}
        begun = {"state": DocumentState.INDEXING, "reason": "none", "message": "", "media_type": media.value}
        done = self._begin(row, base, token, {**facts, **begun})
        for _ in range(limits.KNOWLEDGE_BATCHES_PER_TURN):
            batch = chunks[done : done + limits.KNOWLEDGE_BATCH_CHUNKS]
            if not batch:
                break
            self._embed(
                row, base, replicas[done // limits.KNOWLEDGE_BATCH_CHUNKS % len(replicas)], batch, token
            )
            done += len(batch)
        if done >= len(chunks):
            self._switch(row, base, token, len(chunks))

    def _content(self, row: Row, token: str) -> tuple[bytes, Media]:
        """Return the bytes of the newest version, fetched now if they come from an address."""
        with self._db.transaction(SYSTEM) as connection:
            data = document_store.content(connection, row["id"], row["version"])
        if data is None:
            if row["source_url"] is None:
                raise ReadError("corrupt", "the content of this version is gone; upload it again")
            fetched = self._fetcher.fetch(row["source_url"])
            data = fetched.data
            media = media_of(data, fetched.url, fetched.media_type)
            self._keep_fetched(row, token, data, media)
            return data, media
        return data, media_of(data, row["name"], row["media_type"])

    def _keep_fetched(self, row: Row, token: str, data: bytes, media: Media) -> None:
        facts = {
            "size_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "media_type": media.value,
        }
        with self._db.transaction(SYSTEM) as connection:
            before = row["size_bytes"]
            more = {Measure.DOCUMENT_BYTES.value: len(data) - before}
            breach = quota_store.check_and_take(
                connection, row["tenant_id"], row["project_id"], more, self._clock.now()
            )
            if breach is not None:
                raise FetchError(breach.sentence)
            if not document_store.record(connection, row, token, facts):
                raise _Fenced
            document_store.put_content(connection, row["id"], row["version"], {**facts, "content": data})

    def _begin(self, row: Row, base: Row, token: str, values: Mapping[str, Any]) -> int:
        """Say that it is being indexed, remove chunks of versions that are neither searched nor new."""
        keep = [version for version in (row["indexed_version"], row["version"]) if version is not None]
        with self._db.transaction(SYSTEM) as connection:
            if row["indexed_version"] == row["version"]:
                raise _Fenced  # whole already; only a lost lease leads here
            base_store.remove_chunks(connection, base["id"], row["id"], keep)
            self._take_chunks(connection, row, values["chunks_total"] - (row["chunks_total"] or 0))
            done = base_store.count_chunks(connection, base["id"], row["id"], row["version"]) or 0
            now = self._clock.now()
            moved = {**values, "chunks_done": done, "updated_at": now, "due_at": now}
            if not document_store.record(connection, row, token, moved):
                raise _Fenced
            self._note(connection, row, DocumentState.INDEXING)
        return done

    def _take_chunks(self, connection: Connection, row: Row, more: int) -> None:
        """Take what a version has more chunks than the one before of the quota; raises _NoRoomError."""
        tenant_id, project_id = row["tenant_id"], row["project_id"]
        if more < 0:
            quota_store.give_back_many(connection, [(tenant_id, project_id, {Measure.CHUNKS.value: -more})])
        elif more:
            breach = quota_store.check_and_take(
                connection, tenant_id, project_id, {Measure.CHUNKS.value: more}, self._clock.now()
            )
            if breach is not None:
                raise _NoRoomError(breach.sentence)

    def _embed(self, row: Row, base: Row, replica: Row, batch: Sequence[Chunk], token: str) -> None:
        """Make the vectors of one batch, and write chunks, books and progress as one."""
        target = Target(replica["url"], replica["model"], replica["service_id"], replica["allocation_id"])
        started = self._clock.now()
        found = self._inference.embed(
            target, [chunk.searched for chunk in batch], base["dimensions"], replica["context_tokens"]
        )
        ended = self._clock.now()
        written = [_as_json(chunk, vector) for chunk, vector in zip(batch, found.vectors, strict=True)]
        last = batch[-1].position + 1
        with self._db.transaction(SYSTEM) as connection:
            values = {
                "chunks_done": last,
                "attempts": 0,
                "leased_until": ended + limits.KNOWLEDGE_LEASE_TIME,
                "updated_at": ended,
                "due_at": ended,
            }
            if not document_store.record(connection, row, token, values):
                raise _Fenced
            base_store.add_chunks(connection, base, row["id"], row["version"], written)
            endpoint_store.record_call(
                connection,
                replica,
                what=f"{row['id']} {row['version']} {batch[0].position}",
                tenant_id=row["tenant_id"],
                principal_id=row["created_by"],
                key=base["id"],
                prompt_tokens=found.tokens,
                completion_tokens=0,
                started_at=started,
                ended_at=ended,
            )
            base_store.meter(connection, base, ended.date(), {KnowledgeMeter.CHUNKS_INDEXED: len(batch)})
        CHUNKS.inc(len(batch))

    def _switch(self, row: Row, base: Row, token: str, chunks: int) -> None:
        """Let searches find the new version, and remove the one before."""
        now = self._clock.now()
        values = {
            "indexed_version": row["version"],
            "state": DocumentState.READY,
            "chunks_done": chunks,
            "chunks_kept": chunks,
            "indexed_at": now,
            "updated_at": now,
            "due_at": None,
        }
        with self._db.transaction(SYSTEM) as connection:
            base_store.settle_stored(connection, base["id"], now)
            if not document_store.record(connection, row, token, values):
                raise _Fenced
            document_store.put_content(connection, row["id"], row["version"], {"indexed_at": now})
            base_store.remove_chunks(connection, base["id"], row["id"], [row["version"]])
            base_store.meter(connection, base, now.date(), {KnowledgeMeter.DOCUMENTS_INDEXED: 1})
            self._note(connection, {**row, "state": DocumentState.INDEXING}, DocumentState.READY)
        DOCUMENTS.labels("indexed").inc()

    def _wait(self, row: Row, token: str, reason: str, message: str) -> None:
        delay = min(limits.RETRY_MAX, WAIT_TIME * 2 ** min(row["attempts"], 8))
        now = self._clock.now()
        values = {
            "state": DocumentState.WAITING,
            "reason": reason,
            "message": message,
            "attempts": row["attempts"] + 1,
            "updated_at": now,
            "due_at": now + delay,
        }
        self._record(row, token, values, DocumentState.WAITING)

    def _fail(self, row: Row, token: str, reason: str, message: str) -> None:
        values = {
            "state": DocumentState.FAILED,
            "reason": reason,
            "message": message,
            "updated_at": self._clock.now(),
            "due_at": None,
        }
        self._record(row, token, values, DocumentState.FAILED)
        DOCUMENTS.labels(reason).inc()

    def _record(self, row: Row, token: str, values: Mapping[str, Any], state: DocumentState) -> None:
        with self._db.transaction(SYSTEM) as connection:
            if document_store.record(connection, row, token, values):
                self._note(connection, row, state, str(values["reason"]))

    def _note(self, connection: Connection, row: Row, state: DocumentState, reason: str = "none") -> None:
        """Write the event of a state change; staying put is none."""
        if row["state"] == state:
            return
        if (DocumentState(row["state"]), state) not in TRANSITIONS:
            raise AssertionError(f"{row['id']}: {row['state']} -> {state} is not in the table of transitions")
        data = {
            "name": row["name"],
            "knowledge_base": row["knowledge_base_id"],
            "version": row["version"],
            "from": row["state"],
            "to": state.value,
            "reason": reason,
        }
        event_store.emit(
            connection,
            at=self._clock.now(),
            kind="document.state",
            subject_id=row["id"],
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            data=data,
        )


def _as_json(chunk: Chunk, vector: str) -> dict[str, Any]:
    return {
        "position": chunk.position,
        "heading": chunk.heading,
        "page": chunk.page,
        "start": chunk.start,
        "end": chunk.end,
        "content": chunk.text,
        "vector": vector,
    }
