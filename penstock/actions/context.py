"""Who asks, and what every action works with."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.engine import Connection

from penstock.actions.failures import Failures
from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import ForbiddenError, NotFoundError
from penstock.base.ids import new_id
from penstock.catalog.fleet import SharedPicture
from penstock.domain.device import DeviceClass
from penstock.domain.price import PriceBook
from penstock.domain.role import Binding, Role, granted
from penstock.drivers.images.folder import ImageFolder
from penstock.drivers.inference.client import InferenceClient
from penstock.drivers.oidc.provider import Provider
from penstock.drivers.pki.vault import Vault
from penstock.store import audit as audit_store
from penstock.store.database import SYSTEM, Database, Scope, tenant_scope
from penstock.store.wakeups import Wakeups


@dataclass(frozen=True, slots=True)
class Actor:
    """The authenticated caller of one request.

    ``tenant_id`` is None for principals of the factory (operators, factory auditors).
    """

    principal_id: str
    name: str
    tenant_id: str | None
    key_id: str | None
    key_project_id: str | None
    bindings: tuple[Binding, ...]
    scopes: tuple[str, ...]
    source_address: str
    user_agent: str
    request_id: str
    via_password: bool = False
    idle_until: datetime | None = None
    proved_at: datetime | None = None

    @property
    def scope(self) -> Scope:
        """Return whose rows the caller's transactions may see."""
        return SYSTEM if self.tenant_id is None else tenant_scope(self.tenant_id)

    @property
    def is_operator(self) -> bool:
        """Tell whether the caller operates the factory."""
        return any(b.role is Role.OPERATOR and b.tenant_id is None for b in self.bindings)

    @property
    def project_ids(self) -> frozenset[str] | None:
        """Return the projects the caller is confined to; None: all of the tenant (or of the factory)."""
        if self.key_project_id is not None:
            return frozenset({self.key_project_id})
        if any(b.project_id is None for b in self.bindings):
            return None
        return frozenset(b.project_id for b in self.bindings if b.project_id is not None)

    def may(self, permission: str, tenant_id: str | None = None, project_id: str | None = None) -> bool:
        """Tell whether the caller has ``permission`` on an object of that tenant and project."""
        if self.key_project_id is not None and project_id is not None and project_id != self.key_project_id:
            return False
        return granted(permission, self.bindings, self.scopes, tenant_id, project_id)

    def require(self, permission: str, tenant_id: str | None = None, project_id: str | None = None) -> None:
        """Raise ForbiddenError unless the caller has ``permission`` there."""
        if not self.may(permission, tenant_id, project_id):
            raise ForbiddenError(
                f"your roles and this key's scopes do not allow '{permission}'; ask an administrator of the tenant",
                data={"permission": permission},
            )

    def require_visible(
        self, noun: str, tenant_id: str | None, project_id: str | None, object_id: str
    ) -> None:
        """Raise NotFoundError unless the caller may read this object: foreign and absent look the same."""
        confined = self.project_ids
        if (
            (self.tenant_id is not None and tenant_id is not None and tenant_id != self.tenant_id)
            or (confined is not None and project_id is not None and project_id not in confined)
            or not self.may(f"{noun}:read", tenant_id, project_id)
        ):
            raise not_found(noun, object_id)


def not_found(noun: str, object_id: str) -> NotFoundError:
    """Return the error for an object that is absent or foreign."""
    return NotFoundError(
        f"no {noun.replace('_', ' ')} '{object_id}'; list what you may see and check the id",
        data={"id": object_id},
    )


@dataclass(frozen=True, slots=True)
class Context:
    """What every action works with."""

    db: Database
    clock: Clock
    wakeups: Wakeups
    device_classes: dict[str, DeviceClass]  # one dictionary for all parts; `actions.device_class` adds to it
    picture: SharedPicture
    login_failures: Failures = field(default_factory=Failures)
    inference: InferenceClient = field(default_factory=InferenceClient)
    vault: Vault = field(default_factory=Vault)
    providers: dict[str, Provider] = field(default_factory=dict[str, Provider])  # to sign in through, by name
    images: ImageFolder = field(default_factory=ImageFolder)
    searches: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(limits.SEARCHES_AT_ONCE_MAX, "searches")
    )
    price_books: dict[str, PriceBook] = field(
        default_factory=dict[str, PriceBook]
    )  # read before; they never change

    def new_id(self, noun: str) -> str:
        """Return a fresh id for ``noun``."""
        return new_id(noun, self.clock.now())

    def is_proved(self, actor: Actor) -> bool:
        """Tell whether the caller showed within PROOF_LIFE that it is himself, as dangerous actions want it."""
        return actor.proved_at is not None and self.clock.now() - actor.proved_at < limits.PROOF_LIFE

    def audit(
        self,
        connection: Connection,
        actor: Actor,
        action: str,
        subject_id: str,
        *,
        tenant_id: str | None,
        detail: Mapping[str, object] | None = None,
    ) -> None:
        """Write the audit row of a change, in the transaction of the change."""
        audit_store.write(
            connection,
            at=self.clock.now(),
            tenant_id=tenant_id,
            principal_id=actor.principal_id,
            key_id=actor.key_id,
            action=action,
            subject_id=subject_id,
            outcome="done",
            source_address=actor.source_address,
            user_agent=actor.user_agent,
            request_id=actor.request_id,
            detail=dict(detail or {}),
        )
