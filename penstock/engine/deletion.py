"""Deletion with proof: remove every row, chunk and vector, count what is left, sign what was counted.

The counts are made in the transaction that removes, after the removing, by the same statements that a search
would read through. The report says what was removed, what is left (nothing, or it is not signed) and what
lies outside of it: backups, and pages of the database that are free but not yet overwritten.

An engine that has not got the factory's signing key removes nothing: what is to be deleted is not found by searches
already, and waits for an engine that can prove its removal.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.domain.quota import Measure
from penstock.drivers.pki.signing import Signer
from penstock.store import deletion_proof as proof_store
from penstock.store import document as document_store
from penstock.store import event as event_store
from penstock.store import knowledge_base as base_store
from penstock.store import quota as quota_store
from penstock.store.database import SYSTEM, Database
from penstock.store.rows import Row

PROOFS = Counter("penstock_deletion_proofs_total", "Proofs of deletion that were signed.", ("subject",))
OUTSIDE = (
    "backups made before keep what they hold until they are removed; freed pages of the database are overwritten "
    "as they are used again"
)


class Deletions:
    """Removes documents and knowledge bases, and proves it."""

    def __init__(self, db: Database, clock: Clock, signer: Signer | None = None) -> None:
        self._db = db
        self._clock = clock
        self._signer = signer

    def sign_with(self, signer: Signer) -> None:
        """Remove and sign with this key from now on."""
        self._signer = signer

    @property
    def able(self) -> bool:
        """Tell whether this engine has the factory's key, without which it removes nothing."""
        return self._signer is not None

    def remove_document(self, row: Row, token: str) -> None:
        """Remove a document that is wanted deleted; its proof is signed in the same transaction."""
        with self._db.transaction(SYSTEM) as connection:
            base_store.settle_stored(connection, row["knowledge_base_id"], self._clock.now())
            held = document_store.lock(connection, row["id"])
            if held is None or held["lease_token"] != token:
                return
            base_id = row["knowledge_base_id"]
            versions = [
                {"version": one["version"], "sha256": one["sha256"], "size_bytes": one["size_bytes"]}
                for one in document_store.versions(connection, row["id"])
            ]
            removed: dict[str, int] = {"chunk": base_store.remove_chunks(connection, base_id, row["id"])}
            removed |= document_store.remove(connection, row["id"])
            left = document_store.count_rows(connection, row["id"])
            left["chunk"] = base_store.count_chunks(connection, base_id, row["id"]) or 0
            holds = {
                Measure.DOCUMENTS.value: 1,
                Measure.DOCUMENT_BYTES.value: held["size_bytes"],
                Measure.CHUNKS.value: held["chunks_total"] or 0,
            }
            quota_store.give_back_many(connection, [(row["tenant_id"], row["project_id"], holds)])
            if held["proof_id"] is not None:
                content = {"document": row["id"], "name": row["name"], "versions": versions}
                self._prove(connection, held["proof_id"], "document", content, removed, left)
            self._event(
                connection, "document.removed", row, {"name": row["name"], "chunks": removed["chunk"]}
            )

    def finish_bases(self) -> int:
        """Remove knowledge bases that are to be deleted and whose documents are gone; return how many."""
        done = 0
        if not self.able:
            return done
        with self._db.transaction(SYSTEM) as connection:
            for base in base_store.doomed(connection, limits.ENGINE_BATCH):
                if document_store.page(
                    connection,
                    base_id=base["id"],
                    tenant_id=None,
                    project_ids=None,
                    name=None,
                    after=None,
                    limit=1,
                ):
                    continue
                chunks = base_store.count_chunks(connection, base["id"])
                base_store.remove(connection, base["id"])
                left = {
                    "knowledge_base": int(base_store.get(connection, base["id"]) is not None),
                    "chunk_table": int(base_store.count_chunks(connection, base["id"]) is not None),
                }
                content = {"knowledge_base": base["id"], "name": base["name"]}
                removed = {"knowledge_base": 1, "chunk_table": 1, "chunk": chunks or 0}
                self._prove(connection, base["proof_id"], "knowledge_base", content, removed, left)
                self._event(connection, "knowledge_base.removed", base, {"name": base["name"]})
                done += 1
        return done

    def _prove(
        self,
        connection: Connection,
        proof_id: str,
        subject: str,
        content: Mapping[str, Any],
        removed: Mapping[str, int],
        left: Mapping[str, int],
    ) -> None:
        signer = self._signer
        if signer is None:
            raise AssertionError(f"{content}: nothing is removed without a signing key")
        if any(left.values()):
            raise AssertionError(f"{content}: something is left after its removal: {dict(left)}")
        proof = proof_store.get(connection, proof_id)
        if proof is None:
            raise AssertionError(f"{proof_id} was asked for and is not there")
        now: datetime = self._clock.now()
        report = {
            "proof": proof_id,
            "subject": subject,
            **content,
            "tenant": proof["tenant_id"],
            "project": proof["project_id"],
            "knowledge_base": proof["knowledge_base_id"],
            "requested_by": proof["requested_by"],
            "requested_at": proof["requested_at"].isoformat(),
            "removed_at": now.isoformat(),
            "removed": dict(removed),
            "left": dict(left),
            "outside": OUTSIDE,
        }
        text = orjson.dumps(report, option=orjson.OPT_SORT_KEYS).decode()
        signed = {
            "report": report,
            "signed_text": text,
            "signature": signer.sign(text),
            "public_key": signer.public_key,
        }
        if proof_store.sign(connection, proof_id, signed, now):
            PROOFS.labels(subject).inc()

    def _event(self, connection: Connection, kind: str, row: Row, data: Mapping[str, Any]) -> None:
        event_store.emit(
            connection,
            at=self._clock.now(),
            kind=kind,
            subject_id=row["id"],
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            data={**data, "proof": row["proof_id"]},
        )
