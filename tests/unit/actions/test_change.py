"""One change is one transaction; a refusal leaves nothing but its audit row."""

import pytest
import sqlalchemy as sa

from penstock.actions.change import change
from penstock.base.errors import ConflictError, ForbiddenError, QuotaExceededError
from penstock.control_plane import ControlPlane
from penstock.store.database import SYSTEM
from penstock.store.schema import audit, event, project
from tests.support.tenancy import Caller, make_tenant


@pytest.fixture
def admin(control_plane: ControlPlane) -> Caller:
    """Somebody who changes things."""
    return make_tenant(control_plane, None, "acme").admin


def audited(plane: ControlPlane) -> list[tuple[str, str, str]]:
    with plane.db.transaction(SYSTEM) as connection:
        query = sa.select(audit.c.action, audit.c.subject_id, audit.c.outcome).order_by(audit.c.id)
        return [(row.action, row.subject_id, row.outcome) for row in connection.execute(query)]


def count(plane: ControlPlane, table: sa.Table) -> int:
    with plane.db.transaction(SYSTEM) as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def test_a_change_is_audited_emitted_and_signalled(control_plane: ControlPlane, admin: Caller) -> None:
    seen = control_plane.wakeups.count("event")
    with change(control_plane.context, admin.actor(), "thing.do", "thg_1") as made:
        made.done("thing.done", "thg_1", tenant_id=admin.tenant_id, detail={"n": 1})
    assert audited(control_plane) == [("thing.do", "thg_1", "done")]
    with control_plane.db.transaction(SYSTEM) as connection:
        row = connection.execute(sa.select(event)).one()
    assert (row.kind, row.data) == ("thing.done", {"n": 1, "by": admin.principal_id})
    assert control_plane.wakeups.count("event") > seen


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ForbiddenError("no"), "refused:forbidden"),
        (QuotaExceededError("full"), "refused:quota_exceeded"),
        (ConflictError("taken"), None),
        (RuntimeError("a defect"), None),
    ],
)
def test_a_failed_change_leaves_nothing_but_the_audit_of_its_refusal(
    control_plane: ControlPlane, admin: Caller, error: Exception, outcome: str | None
) -> None:
    before = count(control_plane, project)

    def attempt() -> None:
        with change(control_plane.context, admin.actor(), "thing.do", "thg_1") as made:
            made.connection.execute(sa.update(project).values(state="deleted"))
            made.connection.execute(
                sa.insert(project).values(
                    id="prj_x",
                    tenant_id=admin.tenant_id,
                    name="x",
                    state="active",
                    created_at=control_plane.clock.now(),
                )
            )
            made.done("thing.done", "thg_1", tenant_id=admin.tenant_id)
            raise error

    with pytest.raises(type(error)):
        attempt()
    assert audited(control_plane) == ([] if outcome is None else [("thing.do", "thg_1", outcome)])
    assert (count(control_plane, project), count(control_plane, event)) == (before, 0)
