"""Certificates of a project: issued by its own authority or uploaded, rotated, replaced, revoked. Keys are shown to nobody."""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from penstock.actions import network as network_actions
from penstock.actions import project as project_actions
from penstock.actions.change import Change, change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from penstock.catalog import certificate as issuing
from penstock.domain.certificate import CertificateSource, check_names, key_purpose, state_of
from penstock.drivers.pki import project_authority
from penstock.drivers.pki.uploaded import read_uploaded
from penstock.store import certificate as certificate_store
from penstock.store import load_balancer as balancer_store
from penstock.store import project as project_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row


@dataclass(frozen=True, slots=True)
class NewCertificate:
    """A certificate as it is asked for: names to issue one for, or a chain with its key."""

    project_id: str
    name: str
    description: str
    names: list[str] | None
    life_days: int | None
    certificate_pem: str | None
    private_key_pem: str | None


def create(context: Context, actor: Actor, asked: NewCertificate) -> Row:
    """Issue a certificate or keep one that was brought; InvalidInputError names a bad field, ConflictError a taken name."""
    certificate_id = context.new_id("certificate")
    now = context.clock.now()
    with change(context, actor, "certificate.create", certificate_id) as made:
        project = project_actions.visible(made.connection, actor, asked.project_id)
        actor.require("certificate:create", project["tenant_id"], asked.project_id)
        if project_store.hold(made.connection, asked.project_id) is None:
            raise not_found("project", asked.project_id)
        most = limits.CERTIFICATES_PER_PROJECT_MAX
        if certificate_store.count(made.connection, asked.project_id) >= most:
            raise ConflictError(f"a project has at most {most} certificates; delete one first")
        row: Row = {
            "id": certificate_id,
            "tenant_id": project["tenant_id"],
            "project_id": asked.project_id,
            "name": asked.name,
            "description": asked.description,
            "source": CertificateSource.UPLOADED if asked.names is None else CertificateSource.ISSUED,
            "created_by": actor.principal_id,
            "created_at": now,
        }
        row |= _uploaded(context, row, asked) if asked.names is None else _issued(context, made, row, asked)
        if not certificate_store.insert(made.connection, row):
            raise ConflictError(
                f"the project has a certificate '{asked.name}' already; choose another name", field="name"
            )
        _record(made, "certificate.created", row, source=row["source"], names=row["names"])
        return visible(context, made.connection, actor, certificate_id)


def _uploaded(context: Context, row: Row, asked: NewCertificate) -> Row:
    if asked.life_days is not None:
        raise InvalidInputError(
            "how long a certificate holds is said only of one to issue", field="life_days"
        )
    if asked.certificate_pem is None:
        raise InvalidInputError(
            "give names to issue a certificate for, or a certificate with its private key", field="names"
        )
    if asked.private_key_pem is None:
        raise InvalidInputError("a certificate is brought with its private key", field="private_key_pem")
    content = read_uploaded(asked.certificate_pem, asked.private_key_pem, context.clock.now())
    return issuing.columns(context.vault, row["id"], content)


def _issued(context: Context, made: Change, row: Row, asked: NewCertificate) -> Row:
    for field in ("certificate_pem", "private_key_pem"):
        if getattr(asked, field) is not None:
            raise InvalidInputError("give names, or a certificate with its key, not both", field=field)
    assert asked.names is not None  # noqa: S101 - the caller asked
    issued = {
        **row,
        "names": check_names(asked.names),
        "life_days": asked.life_days or limits.CERTIFICATE_LIFE_DAYS_DEFAULT,
    }
    return issued | issuing.issue(made.connection, context.vault, issued, context.clock.now())


def list_page(
    context: Context, actor: Actor, *, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` certificates that the caller may see, by id."""
    tenant_id = tenant_for_list(actor, "certificate:read", None)
    with context.db.transaction(actor.scope) as connection:
        rows = certificate_store.page(
            connection,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            name=name,
            after=after,
            limit=limit,
        )
    return [_with_state(context, row) for row in rows]


def show(context: Context, actor: Actor, certificate_id: str) -> Row:
    """Return one certificate; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        return visible(context, connection, actor, certificate_id)


def visible(
    context: Context, connection: Connection, actor: Actor, certificate_id: str, *, lock: bool = False
) -> Row:
    """Return a certificate that the caller may see, with its state; NotFoundError otherwise."""
    row = certificate_store.get(connection, certificate_id, lock=lock)
    if row is None:
        raise not_found("certificate", certificate_id)
    actor.require_visible("certificate", row["tenant_id"], row["project_id"], certificate_id)
    return _with_state(context, row)


def _with_state(context: Context, row: Row) -> Row:
    now = context.clock.now()
    return {**row, "state": state_of(row["begins_at"], row["expires_at"], row["revoked_at"], now)}


def _record(made: Change, kind: str, row: Row, **detail: object) -> None:
    network_actions.record(made, kind, row, name=row["name"], **detail)


def rotate(context: Context, actor: Actor, certificate_id: str, *, revoke_old: bool) -> Row:
    """Issue the next content of a certificate now, with a new key; ``revoke_old``: what it had before counts no more.

    ConflictError for one that was uploaded or revoked.
    """
    now = context.clock.now()
    with change(context, actor, "certificate.rotate", certificate_id) as made:
        row = _held(context, made, actor, certificate_id, "certificate:update")
        if row["source"] != CertificateSource.ISSUED:
            raise ConflictError("this certificate was uploaded; replace it with another one instead")
        values = issuing.issue(made.connection, context.vault, row, now)
        certificate_store.renew(made.connection, row, values, now)
        revoked = 0
        if revoke_old:
            revoked = certificate_store.revoke_serials(
                made.connection, certificate_id, now, but=values["serial"]
            )
        _record(made, "certificate.rotated", row, serial=values["serial"], revoked=revoked)
        shown = visible(context, made.connection, actor, certificate_id)
    context.wakeups.signal("load_balancer")
    return shown


def replace(
    context: Context, actor: Actor, certificate_id: str, *, certificate_pem: str, private_key_pem: str
) -> Row:
    """Put another content in the place of an uploaded certificate; ConflictError for one that was issued or revoked."""
    with change(context, actor, "certificate.replace", certificate_id) as made:
        row = _held(context, made, actor, certificate_id, "certificate:update")
        if row["source"] != CertificateSource.UPLOADED:
            raise ConflictError("this certificate was issued here; rotate it instead")
        content = read_uploaded(certificate_pem, private_key_pem, context.clock.now())
        values = issuing.columns(context.vault, certificate_id, content)
        certificate_store.renew(made.connection, row, values, context.clock.now())
        _record(made, "certificate.replaced", row, serial=values["serial"], names=values["names"])
        shown = visible(context, made.connection, actor, certificate_id)
    context.wakeups.signal("load_balancer")
    return shown


def revoke(context: Context, actor: Actor, certificate_id: str) -> Row:
    """End an issued certificate: all of its serials are listed as revoked, and it is not rotated any more. Repeatable.

    ConflictError for one that was uploaded: only whoever signed it can revoke it.
    """
    now = context.clock.now()
    with change(context, actor, "certificate.revoke", certificate_id) as made:
        row = visible(context, made.connection, actor, certificate_id, lock=True)
        actor.require("certificate:update", row["tenant_id"], row["project_id"])
        if row["source"] != CertificateSource.ISSUED:
            raise ConflictError("this certificate was uploaded; only whoever signed it can revoke it")
        if row["revoked_at"] is None:
            _require_unused(made, row, "rotate it and revoke what it had before, or take it away there first")
            number = certificate_store.revoke_serials(made.connection, certificate_id, now)
            certificate_store.change(made.connection, certificate_id, {"revoked_at": now, "rotate_at": None})
            _record(made, "certificate.revoked", row, serial=row["serial"], revoked=number)
        return visible(context, made.connection, actor, certificate_id)


def delete(context: Context, actor: Actor, certificate_id: str) -> None:
    """Remove a certificate with its key; what its project's authority issued of it is revoked."""
    with change(context, actor, "certificate.delete", certificate_id) as made:
        row = visible(context, made.connection, actor, certificate_id, lock=True)
        actor.require("certificate:delete", row["tenant_id"], row["project_id"])
        _require_unused(made, row, "take it away there first")
        certificate_store.revoke_serials(made.connection, certificate_id, context.clock.now())
        certificate_store.remove(made.connection, certificate_id)
        _record(made, "certificate.deleted", row)


def _require_unused(made: Change, row: Row, advice: str) -> None:
    users = balancer_store.of_certificate(made.connection, row["project_id"], row["id"])
    if users:
        raise ConflictError(f"load balancers use this certificate ({', '.join(users)}); {advice}")


def content_for_agent(context: Context, agent_id: str, certificate_id: str) -> str:
    """Return chain and private key as one PEM to an agent that was told to listen with them; NotFoundError for any other."""
    with context.db.transaction(SYSTEM) as connection:
        needed = balancer_store.agent_needs(connection, agent_id, certificate_id)
        row = certificate_store.get(connection, certificate_id) if needed else None
        sealed = certificate_store.sealed_key(connection, certificate_id) if needed else None
    if row is None or sealed is None:
        raise NotFoundError(f"no key of '{certificate_id}' is wanted of this agent")
    try:
        key = context.vault.open(sealed, key_purpose(certificate_id))
    except ValueError as error:
        raise UnavailableError(
            f"the key of '{certificate_id}' is damaged; rotate it or upload it again", internal=str(error)
        ) from error
    return f"{row['chain_pem']}{key}"


def _held(context: Context, made: Change, actor: Actor, certificate_id: str, permission: str) -> Row:
    row = visible(context, made.connection, actor, certificate_id, lock=True)
    actor.require(permission, row["tenant_id"], row["project_id"])
    if row["revoked_at"] is not None:
        raise ConflictError("this certificate was revoked; make another one")
    return row


def authority(context: Context, actor: Actor, project_id: str) -> Row:
    """Return the authority of a project without its key; NotFoundError if it has issued nothing yet."""
    with context.db.transaction(actor.scope) as connection:
        row = _authority(connection, actor, project_id)
    return {name: value for name, value in row.items() if name != "sealed_key"}


def revocation_list(context: Context, actor: Actor, project_id: str) -> bytes:
    """Return the list (DER) of what a project's authority revoked, signed now; NotFoundError as ``authority``."""
    now = context.clock.now()
    with context.db.transaction(actor.scope) as connection:
        row = _authority(connection, actor, project_id)
        revoked = certificate_store.revoked(connection, project_id, now, limits.REVOKED_SERIALS_MAX)
    return project_authority.revocation_list(issuing.opened(context.vault, row), revoked, now)


def _authority(connection: Connection, actor: Actor, project_id: str) -> Row:
    project = project_actions.visible(connection, actor, project_id)
    actor.require("certificate:read", project["tenant_id"], project_id)
    row = certificate_store.authority(connection, project_id)
    if row is None:
        raise NotFoundError(
            "this project has no authority yet: it is made with the first certificate that is issued"
        )
    return row
