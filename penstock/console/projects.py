"""The projects that a visitor sees, for lists that name them and forms that choose one."""

from collections.abc import Iterable

from penstock.actions import project as project_actions
from penstock.base import limits
from penstock.console.edge import Visit
from penstock.store.rows import Row


def seen_projects(visit: Visit) -> list[Row]:
    """Return the projects that the visitor sees, archived ones too; at most ``limits.PAGE_MAX``."""
    return project_actions.list_page(
        visit.context, visit.actor, tenant_id=None, name=None, after=None, limit=limits.PAGE_MAX
    )


def in_use(projects: Iterable[Row]) -> list[Row]:
    """Return those in which something may be made."""
    return [one for one in projects if one["state"] == "active"]
