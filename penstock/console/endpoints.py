"""The running endpoints of one kind of model: those that write text, or those that make vectors."""

from typing import Any

from penstock.actions import model as model_actions
from penstock.actions import service as service_actions
from penstock.base import limits
from penstock.console.edge import Visit
from penstock.console.menu import may_see
from penstock.domain.service import ANSWERING


def running_endpoints(visit: Visit, kind: str) -> list[dict[str, Any]]:
    """Return the caller's services that answer and whose model is of ``kind``: generation or embedding.

    One that sleeps answers, too: the first call wakes it.
    """
    if not may_see(visit.actor, "service:read") or not may_see(visit.actor, "model:read"):
        return []
    models = model_actions.page(
        visit.context, visit.actor, state=None, name=None, after=None, limit=limits.PAGE_MAX
    )
    named = {model["name"] for model in models if model["kind"] == kind}
    # A knowledge base answers by its text model; what an endpoint elsewhere serves is its operator's word.
    services = [
        one
        for called in (ANSWERING if kind == "generation" else ANSWERING[:1])
        for one in service_actions.list_page(
            visit.context,
            visit.actor,
            project=None,
            states=("running", "degraded", "asleep"),
            kind=called,
            name=None,
            after=None,
            limit=limits.PAGE_MAX,
        )
    ]
    return [one for one in services if one["kind"] == "llm_external" or one["spec"].get("model") in named]
