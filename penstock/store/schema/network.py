"""Networks of tenants: subnets, ports, security groups, addresses, names, peerings; the hosts that carry them.

A network's VNI stands in the rows of its subnets and ports too, so that "no prefix overlaps and no address is
given twice inside one network" are constraints: a unique pair, and an exclusion with built-in operator classes
over a range of that one number and the prefix. Growth: a row per object of a tenant; nothing grows with packets or time.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, CIDR, INET, JSONB, ExcludeConstraint
from sqlalchemy.schema import SchemaItem

from penstock.domain.network import VNI_MAX, VNI_MIN
from penstock.store.schema.base import document, id_column, instant, metadata

network_vni = Sequence(
    "network_vni", metadata=metadata, data_type=BigInteger, minvalue=VNI_MIN, maxvalue=VNI_MAX, cycle=True
)


def _owned() -> tuple[SchemaItem, ...]:
    """Return the columns of everything that belongs to a project."""
    return (
        id_column(),
        Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
        Column("project_id", Text, ForeignKey("project.id"), nullable=False),
        Column("name", Text, nullable=False),
        Column("description", Text, nullable=False, server_default=""),
        instant("created_at"),
        Index(None, "tenant_id"),
    )


def _part() -> tuple[SchemaItem, ...]:
    """Return the columns of everything that is a part of a network."""
    return (*_owned(), Column("network_id", Text, ForeignKey("network.id"), nullable=False))


network = Table(
    "network",
    metadata,
    *_owned(),
    Column("vni", Integer, nullable=False, unique=True),
    Column("mtu", Integer, nullable=False),
    Column("dns_zone", Text, nullable=False),
    Column("dns_forwarders", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("flow_log", Text, nullable=False, server_default="drops"),  # all | drops | none
    Column("egress_pool_id", Text, ForeignKey("address_pool.id")),  # NULL: no way out
    Column("egress_address", INET),
    Column("gateway_node_id", Text, ForeignKey("node.id")),
    Column("wanted", Text, nullable=False, server_default="active"),  # active | deleted
    Column("revision", BigInteger, nullable=False, server_default=text("1")),
    Column("applied_revision", BigInteger, nullable=False, server_default=text("0")),
    instant("due_at", nullable=True),  # when the engine looks at it next; NULL: nothing to do
    Index(None, "due_at", postgresql_where=text("due_at IS NOT NULL")),
    UniqueConstraint("project_id", "name"),
)

subnet = Table(
    "subnet",
    metadata,
    *_part(),
    Column("vni", Integer, nullable=False),
    Column("prefix", CIDR, nullable=False),
    Column("gateway", INET, nullable=False),
    document("dhcp_options"),
    document("acl"),
    UniqueConstraint("network_id", "name"),
    ExcludeConstraint(
        (func.int4range(text("vni"), text("vni"), text("'[]'::text")), "&&"),
        ("prefix", "&&"),
        name="ex_subnet_prefix",
        using="gist",
        ops={"prefix": "inet_ops"},
    ),
)

port = Table(
    "port",
    metadata,
    *_part(),
    Column("subnet_id", Text, ForeignKey("subnet.id"), nullable=False),
    Column("vni", Integer, nullable=False),
    Column("mac", Text, nullable=False),
    Column("address", INET, nullable=False),
    Column(
        "service_id", Text, ForeignKey("service.id")
    ),  # what is behind it; NULL: nothing of ours, or not yet
    Column("node_id", Text, ForeignKey("node.id")),  # where it is plugged in now
    Column(
        "arriving_node_id", Text, ForeignKey("node.id")
    ),  # where it is prepared too: its guest is to go there
    Column("egress_kbit_per_second", BigInteger),
    Column("goes_with_machine", Boolean, nullable=False, server_default=text("false")),
    Column(
        "metadata", JSONB, nullable=False, server_default=text("'{}'::jsonb")
    ),  # what its guest may read of itself
    Column("generation", BigInteger, nullable=False, server_default=text("1")),
    # The network's revision that said where it is plugged in; what a host was told from that one on, has it.
    Column("placed_revision", BigInteger, nullable=False, server_default=text("0")),
    Index(None, "network_id"),
    Index(None, "subnet_id"),
    Index(None, "service_id"),
    Index(None, "node_id"),
    Index(None, "arriving_node_id"),
    UniqueConstraint("network_id", "name"),
    UniqueConstraint("network_id", "mac"),
    UniqueConstraint("vni", "address"),  # a point needs no exclusion to be given once only
)

security_group = Table("security_group", metadata, *_part(), UniqueConstraint("network_id", "name"))

security_rule = Table(
    "security_rule",
    metadata,
    id_column(),
    Column("tenant_id", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("group_id", Text, ForeignKey("security_group.id"), nullable=False),
    Column("direction", Text, nullable=False),  # in | out
    Column("protocol", Text, nullable=False),  # any | tcp | udp | icmp
    Column("port_min", Integer),
    Column("port_max", Integer),
    Column("prefix", CIDR),
    Column("remote_group_id", Text, ForeignKey("security_group.id")),
    Column("description", Text, nullable=False, server_default=""),
    instant("created_at"),
    Index(None, "group_id"),
    Index(None, "remote_group_id"),
    Index(None, "tenant_id"),
)

security_binding = Table(
    "security_binding",
    metadata,
    Column("group_id", Text, ForeignKey("security_group.id"), primary_key=True),
    Column("target_id", Text, primary_key=True),  # a port, service, subnet, node or the network
    Column("scope", Text, nullable=False),
    Column("tenant_id", Text, nullable=False),
    Column("network_id", Text, nullable=False),
    instant("created_at"),
    Index(None, "network_id"),
    Index(None, "target_id"),
)

address_pool = Table(
    "address_pool",
    metadata,
    id_column(),
    Column("name", Text, nullable=False, unique=True),
    Column("prefix", CIDR, nullable=False),
    Column("gateway", INET, nullable=False),
    instant("created_at"),
    ExcludeConstraint(
        ("prefix", "&&"), name="ex_address_pool_prefix", using="gist", ops={"prefix": "inet_ops"}
    ),
)

floating_address = Table(
    "floating_address",
    metadata,
    *_owned(),
    Column("pool_id", Text, ForeignKey("address_pool.id"), nullable=False),
    Column("address", INET, nullable=False, unique=True),
    Column("port_id", Text, ForeignKey("port.id"), unique=True),
    Column("network_id", Text, ForeignKey("network.id")),  # the network whose way out it is, or of the port
    Column("egress", Boolean, nullable=False, server_default=text("false")),
    Index(None, "network_id"),
    Index(None, "pool_id"),
    UniqueConstraint("project_id", "name"),
)

dns_record = Table(
    "dns_record",
    metadata,
    *_part(),
    Column("type", Text, nullable=False),  # A | CNAME | TXT
    Column("value", Text, nullable=False),
    UniqueConstraint("network_id", "name", "type", "value"),
)

network_route = Table(
    "network_route",
    metadata,
    *_part(),
    Column("prefix", CIDR, nullable=False),
    Column("port_id", Text, ForeignKey("port.id"), nullable=False),
    Index(None, "port_id"),
    UniqueConstraint("network_id", "name"),
    UniqueConstraint("network_id", "prefix"),
)

network_peering = Table(
    "network_peering",
    metadata,
    *_part(),
    Column("peer_network_id", Text, ForeignKey("network.id"), nullable=False),
    Column("peer_tenant_id", Text, nullable=False),
    Column("state", Text, nullable=False),  # requested | active | ended
    Column("peer_project_id", Text, ForeignKey("project.id"), nullable=False),
    instant("accepted_at", nullable=True),
    Index(None, "peer_network_id"),
    Index(None, "peer_tenant_id"),
    UniqueConstraint("network_id", "name"),
    UniqueConstraint("network_id", "peer_network_id"),
    CheckConstraint("network_id <> peer_network_id", name="two_networks"),
)

network_host = Table(
    "network_host",
    metadata,
    Column("node_id", Text, ForeignKey("node.id"), primary_key=True),
    Column("slot", Integer, nullable=False, unique=True),  # its place in the overlay's own numbering
    Column("underlay_address", INET, nullable=False, unique=True),
    Column("external_bridge", Text),  # NULL: it cannot be a gateway
    Column("driver", Text, nullable=False),
    instant("created_at"),
)

fabric_partition = Table(
    "fabric_partition",
    metadata,
    *_owned(),
    Column("pkey", Integer, nullable=False, unique=True),
    Column("node_ids", ARRAY(Text), nullable=False),  # those that operators want in it, asked for or not
    Column("wanted", Text, nullable=False, server_default="present"),  # present | deleted
    Column("automatic", Boolean, nullable=False, server_default=text("false")),  # goes with who asks for it
    Column("state", Text, nullable=False, server_default="ready"),  # ready | changing | failed | deleting
    Column("reason", Text, nullable=False, server_default=""),
    Column("attempts", Integer, nullable=False, server_default=text("0")),  # failed ones, in a row
    Column("repairs", Integer, nullable=False, server_default=text("0")),  # of what others changed
    instant("due_at", nullable=True),
    UniqueConstraint("project_id", "name"),
    CheckConstraint("pkey BETWEEN 1 AND 32766", name="pkey"),
    Index("ix_fabric_partition_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
)

# A row from before a fabric manager is told that a node joins until it has said that the node left; with state
# ``refused`` why a node cannot join.
fabric_member = Table(
    "fabric_member",
    metadata,
    Column("partition_id", Text, ForeignKey("fabric_partition.id", ondelete="CASCADE"), primary_key=True),
    Column("node_id", Text, ForeignKey("node.id"), primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("state", Text, nullable=False),  # joining | member | leaving | refused
    Column("reason", Text, nullable=False, server_default=""),
    instant("since"),
    Index(None, "node_id"),
)
