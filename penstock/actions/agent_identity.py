"""How an agent joins with a one-time token, proves who it is, and renews its certificate.

The factory's own authority signs agents' certificates; TLS has verified that before anything here is asked.
What decides is the agent's row: a revoked agent is refused at once, however long its certificate lasts. A
certificate that was renewed stays good until its own end (a day), so that an agent which lost the answer to
a renewal is not locked out.
"""

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy.engine import Connection

from penstock.actions.context import Context
from penstock.base import limits
from penstock.base.errors import UnauthenticatedError
from penstock.base.ids import is_id
from penstock.domain import join_token as token_text
from penstock.domain.join_token import JoinTokenText
from penstock.store import agent as agent_store
from penstock.store import audit as audit_store
from penstock.store import event as event_store
from penstock.store import join_token as join_token_store
from penstock.store.database import SYSTEM

_REFUSED = "this join token is unknown, used, ended or of another factory; make a new one with `penstock agent token`"
_BAD_CERTIFICATE = (
    "this needs the certificate of an agent of this factory; the one given is missing, or its agent is unknown or "
    "revoked. Make a join token with `penstock agent token` and join again"
)


class Signed(Protocol):
    """A certificate just made: PEM, SHA-256 of its DER form in hex, and when it ends."""

    @property
    def pem(self) -> str: ...  # noqa: D102 - named by the class

    @property
    def sha256(self) -> str: ...  # noqa: D102 - named by the class

    @property
    def expires_at(self) -> datetime: ...  # noqa: D102 - named by the class


class Authority(Protocol):
    """The factory's certificate authority; ``penstock.drivers.pki.authority.FactoryCa`` is one."""

    @property
    def ca_pem(self) -> str: ...  # noqa: D102 - the authority's certificate

    @property
    def fingerprint(self) -> str: ...  # noqa: D102 - its SHA-256 in hex

    def sign_agent_csr(self, csr_pem: str, agent_id: str, life: timedelta) -> Signed:
        """Certify the key of a request for ``agent_id``; InvalidInputError if it is not one."""
        ...


@dataclass(frozen=True, slots=True)
class Joined:
    """A new agent and its first certificate."""

    agent_id: str
    certificate: Signed


def join(
    context: Context, authority: Authority, *, token: str, csr_pem: str, name: str, source_address: str
) -> Joined:
    """Redeem a token: one transaction, so that of two at once exactly one wins.

    Raises UnauthenticatedError (the same for every reason) or InvalidInputError on a bad signing request,
    which leaves the token unused.
    """
    parsed = token_text.parse(token)
    if parsed is None or not hmac.compare_digest(parsed.ca_sha256, authority.fingerprint):
        raise UnauthenticatedError(_REFUSED)
    now = context.clock.now()
    agent_id = context.new_id("agent")
    with context.db.transaction(SYSTEM) as connection:
        _require_unused(connection, parsed, now)
        signed = authority.sign_agent_csr(csr_pem, agent_id, limits.AGENT_CERTIFICATE_LIFE)
        agent_store.insert(
            connection,
            agent_id=agent_id,
            name=name,
            transport="https",
            at=now,
            certificate_sha256=signed.sha256,
            certificate_expires_at=signed.expires_at,
        )
        join_token_store.mark_used(connection, parsed.token_id, agent_id, now)
        _note(connection, now, agent_id, name, parsed.token_id, source_address)
    context.wakeups.signal("event")
    return Joined(agent_id, signed)


def _require_unused(connection: Connection, token: JoinTokenText, now: datetime) -> None:
    row = join_token_store.lock(connection, token.token_id)
    if (
        row is None
        or not hmac.compare_digest(row["secret_sha256"], token.secret_sha256)
        or row["used_at"] is not None
        or row["expires_at"] <= now
    ):
        raise UnauthenticatedError(_REFUSED)


def _note(
    connection: Connection, now: datetime, agent_id: str, name: str, token_id: str, source_address: str
) -> None:
    audit_store.write(
        connection,
        at=now,
        tenant_id=None,
        principal_id=agent_id,
        key_id=None,
        action="agent.join",
        subject_id=agent_id,
        outcome="done",
        source_address=source_address,
        user_agent="",
        request_id="",
        detail={"name": name, "join_token": token_id},
    )
    event_store.emit(
        connection,
        at=now,
        kind="agent.joined",
        subject_id=agent_id,
        tenant_id=None,
        project_id=None,
        data={"name": name},
    )


def authenticate(context: Context, agent_id: str | None, expires_at: datetime | None) -> str:
    """Return the id of the agent that a verified certificate names; raises UnauthenticatedError.

    ``agent_id`` and ``expires_at`` are what the certificate says, None if there is none. TLS looks at the
    validity when a connection begins; connections outlive certificates, so it is looked at again here.
    """
    if agent_id is None or expires_at is None or not is_id(agent_id, "agent"):
        raise UnauthenticatedError(_BAD_CERTIFICATE)
    with context.db.reading() as connection:
        row = agent_store.get(connection, agent_id)
    if row is None or row["state"] == "revoked" or expires_at <= context.clock.now():
        raise UnauthenticatedError(_BAD_CERTIFICATE)
    return agent_id


def renew(context: Context, authority: Authority, agent_id: str, csr_pem: str) -> Signed:
    """Give an agent a new certificate; raises InvalidInputError on a bad signing request."""
    signed = authority.sign_agent_csr(csr_pem, agent_id, limits.AGENT_CERTIFICATE_LIFE)
    with context.db.transaction(SYSTEM) as connection:
        agent_store.set_certificate(connection, agent_id, signed.sha256, signed.expires_at)
    return signed
