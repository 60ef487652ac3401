"""The floor: every device with its ledger state, holder and load, gathered by node for a picture of the whole."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every

# Of a device that is cut, the state that covers most slices stands for all; a share says how much is sold.
_FLOOR = sa.text(
    """
    WITH open AS (
        SELECT DISTINCT ON (g.device_id) g.device_id, g.state, g.tenant_id, g.service_id
        FROM segment g WHERE g.end_at IS NULL
        ORDER BY g.device_id, g.slice_high - g.slice_low DESC, g.slice_low
    ), load AS (
        SELECT service_id, node_id, max(busy_permille) AS busy FROM allocation
        WHERE busy_permille IS NOT NULL GROUP BY service_id, node_id
    ), cells AS (
        SELECT d.node_id,
            array_agg(COALESCE(o.state, 'dark') ORDER BY d.position) AS states,
            array_agg(o.tenant_id ORDER BY d.position) AS tenants,
            array_agg(d.health ORDER BY d.position) AS healths,
            array_agg(bit_count(CAST(d.used_mask AS bit(64))) * 1000 / d.slices ORDER BY d.position) AS sold_permille,
            array_agg(l.busy ORDER BY d.position) AS busy_permille,
            array_agg(m.watts::bigint * 1000000 / NULLIF(class_load_mw(k.data), 0) ORDER BY d.position) AS drawn_permille,
            array_agg(m.celsius ORDER BY d.position) AS celsius
        FROM device d JOIN node w ON w.id = d.node_id JOIN device_class k ON k.name = d.device_class
        LEFT JOIN reading m ON m.device_id = d.id AND m.read_at > :since AND w.state = 'ready' AND w.power_state = 'on'
        LEFT JOIN open o ON o.device_id = d.id
        LEFT JOIN load l ON l.service_id = o.service_id AND l.node_id = d.node_id
        GROUP BY d.node_id
    )
    SELECT n.id, n.name, n.state, n.cordoned, s.name AS site, s.simulated, COALESCE(r.name, '') AS rack,
        c.states, c.tenants, c.healths, c.sold_permille, c.busy_permille, c.drawn_permille, c.celsius
    FROM node n JOIN site s ON s.id = n.site_id LEFT JOIN rack r ON r.id = n.rack_id
    LEFT JOIN cells c ON c.node_id = n.id
    WHERE n.state <> 'retired' ORDER BY s.simulated, s.name, r.name NULLS FIRST, n.name
    """
)


def read(connection: Connection, since: datetime) -> list[Row]:
    """Return every node that is not retired with its devices' states in order of position; needs the system scope.

    The arrays are None for a node without devices. ``busy_permille`` entries are None where nobody measures,
    ``drawn_permille`` (of the most that its class draws) and ``celsius`` also where that was before ``since``.
    """
    return every(connection.execute(_FLOOR, {"since": since}))
