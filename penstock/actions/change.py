"""One change asked for by somebody: check, do, audit and event in one transaction; a refusal is audited too."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from penstock.actions.context import Actor, Context
from penstock.base.errors import ForbiddenError, PenstockError, QuotaExceededError
from penstock.store import audit as audit_store
from penstock.store import event as event_store
from penstock.store.database import SYSTEM


@dataclass(frozen=True, slots=True)
class Change:
    """A change in progress; ``connection`` is its transaction."""

    context: Context
    connection: Connection
    actor: Actor
    action: str

    def done(
        self,
        kind: str,
        subject_id: str,
        *,
        tenant_id: str | None,
        project_id: str | None = None,
        detail: Mapping[str, object] | None = None,
    ) -> None:
        """Write the audit row and the event ``kind``; ``detail`` goes to both and must hold no secret."""
        self.context.audit(
            self.connection, self.actor, self.action, subject_id, tenant_id=tenant_id, detail=detail
        )
        event_store.emit(
            self.connection,
            at=self.context.clock.now(),
            kind=kind,
            subject_id=subject_id,
            tenant_id=tenant_id,
            project_id=project_id,
            data={**(detail or {}), "by": self.actor.principal_id},
        )


@contextmanager
def change(
    context: Context, actor: Actor, action: str, subject_id: str = "", *, wide: bool = False
) -> Generator[Change]:
    """Open the transaction of a change, in the caller's scope.

    ``wide`` is for what concerns two tenants: it sees the rows of both, so each check of whose they are is the action's.

    If the caller is not allowed or a quota forbids it, nothing is changed and an audit row of its own says who
    tried (outcome ``refused:<code>``), on ``subject_id``.
    """
    try:
        with context.db.transaction(SYSTEM if wide else actor.scope) as connection:
            yield Change(context, connection, actor, action)
    except (ForbiddenError, QuotaExceededError) as error:
        record_refusal(context, actor, action, subject_id, error)
        raise
    context.wakeups.signal("event")


def record_refusal(
    context: Context, actor: Actor, action: str, subject_id: str, error: PenstockError
) -> None:
    """Write the audit row of a refused change in a transaction of its own."""
    with context.db.transaction(actor.scope) as connection:
        audit_store.write(
            connection,
            at=context.clock.now(),
            tenant_id=actor.tenant_id,
            principal_id=actor.principal_id,
            key_id=actor.key_id,
            action=action,
            subject_id=subject_id,
            outcome=f"refused:{error.code}",
            source_address=actor.source_address,
            user_agent=actor.user_agent,
            request_id=actor.request_id,
            detail=error.data,
        )
