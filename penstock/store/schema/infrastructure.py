"""Sites, racks, power feeds, nodes, devices, agents, and what is held and driven on them.

Growth: site to device rows grow with hardware only. claim grows with orders (one to a few rows each, kept
for history). allocation holds live work only: rows go when the backend confirmed the removal.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Sequence,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, INT8RANGE, JSONB, TSTZRANGE, ExcludeConstraint

from penstock.store.schema.base import amount, changed_column, document, id_column, instant, metadata

site = Table(
    "site",
    metadata,
    id_column(),
    Column("name", Text, nullable=False, unique=True),
    Column("simulated", Boolean, nullable=False),
    Column("timezone", Text, nullable=False, server_default="UTC"),
    instant("created_at"),
)

power_feed = Table(
    "power_feed",
    metadata,
    id_column(),
    Column("site_id", Text, ForeignKey("site.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("level", Text, nullable=False),
    amount("budget_watts"),
    UniqueConstraint("site_id", "name"),
)

rack = Table(
    "rack",
    metadata,
    id_column(),
    Column("site_id", Text, ForeignKey("site.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("power_feed_id", Text, ForeignKey("power_feed.id")),
    Column("row_name", Text),  # the row it stands in, a name within the site; NULL: nobody said
    UniqueConstraint("site_id", "name"),
)

# What may be held of power where; held_mw is kept by triggers on node and device (migration 0023).
power_budget = Table(
    "power_budget",
    metadata,
    id_column(),
    Column("site_id", Text, ForeignKey("site.id"), nullable=False),
    Column("level", Text, nullable=False),
    Column("subject_id", Text, nullable=False),  # an id; of a row: site id/name
    Column("name", Text, nullable=False),
    Column("limit_watts", BigInteger),  # NULL: removed
    amount("held_mw"),
    Column("generation", BigInteger, nullable=False, server_default=text("1")),
    changed_column(),
    instant("created_at"),
    UniqueConstraint("level", "subject_id"),
    Index(None, "changed_xid"),
)

agent = Table(
    "agent",
    metadata,
    id_column(),
    Column("name", Text, nullable=False),
    Column("transport", Text, nullable=False),  # in_process | https
    Column("certificate_sha256", Text, unique=True),
    instant("certificate_expires_at", nullable=True),
    Column("state", Text, nullable=False),  # active | silent | revoked
    Column("source_address", Text),  # where it enrolled from last; NULL: in this process, or not since 0004
    Column("serve_host", Text),  # where its relay is reached, as it says
    instant("last_seen_at"),
    instant("created_at"),
)

join_token = Table(
    "join_token",
    metadata,
    id_column(),
    Column("secret_sha256", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    instant("created_at"),
    instant("expires_at"),
    instant("used_at", nullable=True),
    Column("used_by_agent_id", Text, ForeignKey("agent.id")),
)

node = Table(
    "node",
    metadata,
    id_column(),
    Column("site_id", Text, ForeignKey("site.id"), nullable=False),
    Column("rack_id", Text, ForeignKey("rack.id")),
    Column("agent_id", Text, ForeignKey("agent.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("cordoned", Boolean, nullable=False, server_default=text("false")),
    Column("maintenance", Boolean, nullable=False, server_default=text("false")),  # has begun
    instant("maintenance_from", nullable=True),  # when the next one begins
    Column("state", Text, nullable=False),  # ready | unreachable | recovering | retired
    Column("state_message", Text, nullable=False, server_default=""),
    Column("architecture", Text, nullable=False),
    Column("cpu_model", Text, nullable=False),
    Column("cpu_cores", Integer, nullable=False),
    Column("cpu_threads", Integer, nullable=False),
    amount("memory_bytes"),
    amount("memory_used_bytes"),
    amount("cpu_millis"),
    amount("cpu_used_millis"),
    document("numa"),
    document("disks"),
    document("nics"),
    document("notes"),
    Column("drivers", ARRAY(Text), nullable=False),
    Column("leaf", Text),
    Column("spine", Text),
    Column("core", Text),
    Column("power_feed_id", Text, ForeignKey("power_feed.id")),
    amount("host_mw"),  # what the host holds of power while it is on
    Column(
        "power_held", Boolean, nullable=False, server_default=text("true")
    ),  # it is on, or its power is kept
    Column("power_wanted", Text, nullable=False, server_default="on"),  # on | off
    Column("power_state", Text, nullable=False, server_default="on"),  # on | off | waking
    Column(
        "power_switch", Boolean, nullable=False, server_default=text("false")
    ),  # a driver can turn it off and on
    instant("power_at", nullable=True),  # since when; NULL: since it was enrolled
    Column("kept_for", Text),  # the project whose partition of the fabric it is in, joins or leaves
    Column("generation", BigInteger, nullable=False, server_default=text("1")),
    changed_column(),
    instant("created_at"),
    UniqueConstraint("site_id", "name"),
    Index(None, "agent_id"),
    Index(None, "changed_xid"),
    Index("ix_node_kept_for", "kept_for", postgresql_where=text("kept_for IS NOT NULL")),
)

# What nodes say of their copies of models' weights. Growth: a row per node and model that it holds.
weights = Table(
    "weights",
    metadata,
    id_column(),
    Column("node_id", Text, ForeignKey("node.id"), nullable=False),
    Column("sha256", Text, nullable=False),
    Column("state", Text, nullable=False),  # fetching | held | failed
    Column("message", Text, nullable=False, server_default=""),
    amount("size_bytes"),
    amount("held_bytes"),
    Column("in_place", Boolean, nullable=False),
    Column("in_use", Boolean, nullable=False),
    Column(
        "unwanted", Boolean, nullable=False, server_default=text("false")
    ),  # to be given up when it can be
    instant("created_at"),
    instant("seen_at"),
    UniqueConstraint("node_id", "sha256"),
    Index(None, "sha256"),
)

device_class = Table(
    "device_class",
    metadata,
    Column("name", Text, primary_key=True),
    document("data"),
)

# Each device owns 64 numbers of one line, so that "no slice sold twice" is a built-in range exclusion.
device_unit = Sequence("device_unit", metadata=metadata, data_type=BigInteger, increment=64, start=64)

device = Table(
    "device",
    metadata,
    id_column(),
    Column("node_id", Text, ForeignKey("node.id"), nullable=False),
    Column("position", SmallInteger, nullable=False),
    Column("device_class", Text, ForeignKey("device_class.name"), nullable=False),
    Column("model", Text, nullable=False),
    Column("vendor", Text, nullable=False),
    amount("memory_bytes"),
    Column("slices", SmallInteger, nullable=False),
    amount("slice_memory_bytes"),
    Column("serial", Text),
    Column("uuid", Text),
    Column("pci_address", Text),
    Column("numa_node", SmallInteger),
    Column("nvlink_domain", Text),
    Column("health", Text, nullable=False),
    Column("attach", Text, nullable=False, server_default=text("'vfio'")),  # domain.device.Attach
    Column("mdev_type", Text),
    Column("simulated", Boolean, nullable=False),
    Column("used_mask", BigInteger, nullable=False, server_default=text("0")),
    Column("yielding_mask", BigInteger, nullable=False, server_default=text("0")),  # held by work that yields
    Column("booked_mask", BigInteger, nullable=False, server_default=text("0")),  # on the calendar, any time
    Column(
        "power_booked", Boolean, nullable=False, server_default=text("false")
    ),  # a reservation keeps its power
    Column("unit_base", BigInteger, nullable=False, server_default=device_unit.next_value(), unique=True),
    Column("generation", BigInteger, nullable=False, server_default=text("1")),
    changed_column(),
    instant("created_at"),
    UniqueConstraint("node_id", "position"),
    Index(None, "changed_xid"),
)

# What devices measured last: no part of the device, whose changes wake and spoil caches. Growth: a row per device.
reading = Table(
    "reading",
    metadata,
    Column("device_id", Text, ForeignKey("device.id"), primary_key=True),
    Column("watts", Integer),
    Column("celsius", SmallInteger),
    instant("read_at"),
)

host_check = Table(
    "host_check",
    metadata,
    Column("node_id", Text, ForeignKey("node.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("state", Text, nullable=False),  # ok | warning | bad
    Column("message", Text, nullable=False),
    instant("since"),
    instant("seen_at"),
)

host_log = Table(
    "host_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("node_id", Text, ForeignKey("node.id", ondelete="CASCADE"), nullable=False),
    Column("source", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    instant("at"),
    instant("taken_at"),
    Column("level", Text, nullable=False),
    Column("text", Text, nullable=False),
    UniqueConstraint("node_id", "source", "run", "number"),
    Index(None, "node_id", "source", "id"),
    Index(None, "taken_at"),
)

allocation = Table(
    "allocation",
    metadata,
    id_column(),
    Column("service_id", Text, ForeignKey("service.id")),  # NULL: it carries one of these four
    Column("network_id", Text),
    Column("volume_id", Text),
    Column("load_balancer_id", Text),
    Column("fabric_partition_id", Text),
    Column("tenant_id", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("node_id", Text, ForeignKey("node.id"), nullable=False),
    Column("agent_id", Text, nullable=False),
    Column("driver", Text, nullable=False),
    Column("wanted", Text, nullable=False),  # present | absent
    Column("generation", BigInteger, nullable=False),
    document("config"),
    Column("phase", Text, nullable=False),
    Column("phase_generation", BigInteger, nullable=False, server_default=text("0")),
    Column("code", Text),
    Column("message", Text),
    Column("endpoint", Text),
    Column("busy_permille", SmallInteger),
    Column("detail", JSONB),  # what else the driver says; NULL: nothing
    instant("observed_at", nullable=True),
    instant("started_at", nullable=True),
    instant("ready_at", nullable=True),
    instant("draining_at", nullable=True),  # since when gateways begin nothing new on it; then it is stopped
    # Its agent is not told of it before its node has joined a partition of the fabric.
    Column("isolating", Boolean, nullable=False, server_default=text("false")),
    changed_column(),
    Index(None, "service_id"),
    Index("uq_allocation_network_id", "network_id", "node_id", unique=True),
    Index("uq_allocation_volume_id", "volume_id", "node_id", unique=True),
    Index("uq_allocation_load_balancer_id", "load_balancer_id", "node_id", unique=True),
    Index("uq_allocation_fabric_partition_id", "fabric_partition_id", "node_id", unique=True),
    Index("ix_allocation_isolating", "id", postgresql_where=text("isolating")),
    Index(None, "agent_id", "changed_xid"),
    Index(None, "node_id"),
    # What was placed and is not yet told what to be: machines whose network is being made ready.
    Index("ix_allocation_waiting", "id", postgresql_where=text("jsonb_exists(config, 'waiting')")),
)

claim = Table(
    "claim",
    metadata,
    id_column(),
    # A claim without a service is a booking of the calendar; what its reservation holds of a device.
    Column("service_id", Text, ForeignKey("service.id")),
    Column("allocation_id", Text),
    Column("reservation_id", Text, ForeignKey("reservation.id")),
    Column("tenant_id", Text),
    Column("project_id", Text),
    Column("node_id", Text, ForeignKey("node.id"), nullable=False),
    Column("device_id", Text, ForeignKey("device.id")),
    Column("mask", BigInteger, nullable=False),
    Column("units", INT8RANGE),
    amount("node_memory_bytes"),
    amount("node_cpu_millis"),
    Column("preemptible", Boolean, nullable=False, server_default=text("false")),
    instant("held_from"),
    instant("ends_at", nullable=True),  # known in advance: given back then at the latest
    # What it holds of the calendar; NULL: nothing (it yields, or is inside a reservation, or is maintenance).
    Column("during", TSTZRANGE),
    instant("released_at", nullable=True),
    Index(None, "service_id"),
    Index("ix_claim_yielding", "held_from", postgresql_where=text("preemptible AND released_at IS NULL")),
    Index("ix_claim_held_node_id", "node_id", postgresql_where=text("released_at IS NULL")),
    Index(
        "ix_claim_booked", "device_id", postgresql_where=text("service_id IS NULL AND released_at IS NULL")
    ),
    Index(
        "ix_claim_leaving",
        "device_id",
        postgresql_where=text("ends_at IS NOT NULL AND service_id IS NOT NULL AND released_at IS NULL"),
    ),
    Index("ix_claim_reservation_id", "reservation_id", postgresql_where=text("reservation_id IS NOT NULL")),
    # Nobody holds what another one holds now, and nobody books what is another one's then.
    ExcludeConstraint(
        ("units", "&&"),
        name="ex_claim_units",
        using="gist",
        where=text("released_at IS NULL AND service_id IS NOT NULL"),
    ),
    ExcludeConstraint(
        ("units", "&&"),
        ("during", "&&"),
        name="ex_claim_calendar",
        using="gist",
        where=text("released_at IS NULL AND during IS NOT NULL"),
    ),
)
