"""Where nodes are in the fabric: leaf, spine, core, NVLink domains, partitions; for the factory's people."""

from urllib.parse import urlencode

from starlette.responses import Response

from penstock.actions import fabric_partition as partition_actions
from penstock.base import limits
from penstock.console.edge import Visit, get
from penstock.console.paging import paged
from penstock.domain.fabric_partition import MEMBER_STATE_SENTENCES
from penstock.store.fabric_partition import Place

ASKED = (
    ("leaf", "Leaf"),
    ("spine", "Spine"),
    ("core", "Core"),
    ("nvlink_domain", "NVLink domain"),
)


def list_nodes(visit: Visit) -> Response:
    """Show where nodes are; the address says in which part of the fabric."""
    asked = {name: visit.query(name) or None for name in (*dict(ASKED), "partition_id")}
    listed = paged(
        visit,
        lambda after, limit: partition_actions.inventory(
            visit.context, visit.actor, Place(**asked), after=after, limit=limit
        ),
        "node_id",
    )
    partitions = partition_actions.list_page(
        visit.context, visit.actor, name=None, after=None, limit=limits.PAGE_MAX
    )
    return visit.page(
        "fabric_nodes.html",
        nodes=listed.rows,
        after=listed.after,
        more=listed.more,
        boxes=ASKED,
        asked={name: value or "" for name, value in asked.items()},
        filters={name: value for name, value in asked.items() if value},
        query=urlencode({name: value for name, value in asked.items() if value}),
        partitions=partitions,
        sentences=MEMBER_STATE_SENTENCES,
    )


routes = [get("/fabric-nodes", list_nodes)]
