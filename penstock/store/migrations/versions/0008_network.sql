-- Networks of tenants; see store/schema/network.py. A range of one number (the VNI) stands for "the same network" in exclusions.

CREATE SEQUENCE network_vni AS BIGINT MINVALUE 4096 MAXVALUE 16777215 CYCLE;

CREATE TABLE address_pool (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    prefix CIDR NOT NULL,
    gateway INET NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_address_pool PRIMARY KEY (id),
    CONSTRAINT ex_address_pool_prefix EXCLUDE USING gist (prefix inet_ops WITH &&),
    CONSTRAINT uq_address_pool_name UNIQUE (name)
);

CREATE TABLE network (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    vni INTEGER NOT NULL,
    mtu INTEGER NOT NULL,
    dns_zone TEXT NOT NULL,
    dns_forwarders TEXT[] DEFAULT '{}' NOT NULL,
    egress_pool_id TEXT,
    egress_address INET,
    gateway_node_id TEXT,
    wanted TEXT DEFAULT 'active' NOT NULL,
    revision BIGINT DEFAULT 1 NOT NULL,
    applied_revision BIGINT DEFAULT 0 NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_network PRIMARY KEY (id),
    CONSTRAINT uq_network_project_id_name UNIQUE (project_id, name),
    CONSTRAINT fk_network_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_network_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT uq_network_vni UNIQUE (vni),
    CONSTRAINT fk_network_egress_pool_id FOREIGN KEY(egress_pool_id) REFERENCES address_pool (id),
    CONSTRAINT fk_network_gateway_node_id FOREIGN KEY(gateway_node_id) REFERENCES node (id)
);

CREATE INDEX ix_network_due_at ON network (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX ix_network_tenant_id ON network (tenant_id);

CREATE TABLE subnet (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    network_id TEXT NOT NULL,
    vni INTEGER NOT NULL,
    prefix CIDR NOT NULL,
    gateway INET NOT NULL,
    dhcp_options JSONB NOT NULL,
    acl JSONB NOT NULL,
    CONSTRAINT pk_subnet PRIMARY KEY (id),
    CONSTRAINT uq_subnet_network_id_name UNIQUE (network_id, name),
    CONSTRAINT ex_subnet_prefix EXCLUDE USING gist (int4range(vni, vni, '[]'::text) WITH &&, prefix inet_ops WITH &&),
    CONSTRAINT fk_subnet_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_subnet_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_subnet_network_id FOREIGN KEY(network_id) REFERENCES network (id)
);

CREATE INDEX ix_subnet_tenant_id ON subnet (tenant_id);

CREATE TABLE port (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    network_id TEXT NOT NULL,
    subnet_id TEXT NOT NULL,
    vni INTEGER NOT NULL,
    mac TEXT NOT NULL,
    address INET NOT NULL,
    service_id TEXT,
    node_id TEXT,
    egress_kbit_per_second BIGINT,
    generation BIGINT DEFAULT 1 NOT NULL,
    CONSTRAINT pk_port PRIMARY KEY (id),
    CONSTRAINT uq_port_network_id_name UNIQUE (network_id, name),
    CONSTRAINT uq_port_network_id_mac UNIQUE (network_id, mac),
    CONSTRAINT uq_port_vni_address UNIQUE (vni, address),
    CONSTRAINT fk_port_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_port_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_port_network_id FOREIGN KEY(network_id) REFERENCES network (id),
    CONSTRAINT fk_port_subnet_id FOREIGN KEY(subnet_id) REFERENCES subnet (id),
    CONSTRAINT fk_port_service_id FOREIGN KEY(service_id) REFERENCES service (id),
    CONSTRAINT fk_port_node_id FOREIGN KEY(node_id) REFERENCES node (id)
);

CREATE INDEX ix_port_network_id ON port (network_id);

CREATE INDEX ix_port_node_id ON port (node_id);

CREATE INDEX ix_port_service_id ON port (service_id);

CREATE INDEX ix_port_subnet_id ON port (subnet_id);

CREATE INDEX ix_port_tenant_id ON port (tenant_id);

CREATE TABLE security_group (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    network_id TEXT NOT NULL,
    CONSTRAINT pk_security_group PRIMARY KEY (id),
    CONSTRAINT uq_security_group_network_id_name UNIQUE (network_id, name),
    CONSTRAINT fk_security_group_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_security_group_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_security_group_network_id FOREIGN KEY(network_id) REFERENCES network (id)
);

CREATE INDEX ix_security_group_tenant_id ON security_group (tenant_id);

CREATE TABLE security_rule (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    group_id TEXT NOT NULL,
    direction TEXT NOT NULL,
    protocol TEXT NOT NULL,
    port_min INTEGER,
    port_max INTEGER,
    prefix CIDR,
    remote_group_id TEXT,
    description TEXT DEFAULT '' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_security_rule PRIMARY KEY (id),
    CONSTRAINT fk_security_rule_group_id FOREIGN KEY(group_id) REFERENCES security_group (id),
    CONSTRAINT fk_security_rule_remote_group_id FOREIGN KEY(remote_group_id) REFERENCES security_group (id)
);

CREATE INDEX ix_security_rule_group_id ON security_rule (group_id);

CREATE INDEX ix_security_rule_remote_group_id ON security_rule (remote_group_id);

CREATE INDEX ix_security_rule_tenant_id ON security_rule (tenant_id);

CREATE TABLE security_binding (
    group_id TEXT NOT NULL,
    target_id TEXT NOT NULL,
    scope TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    network_id TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_security_binding PRIMARY KEY (group_id, target_id),
    CONSTRAINT fk_security_binding_group_id FOREIGN KEY(group_id) REFERENCES security_group (id)
);

CREATE INDEX ix_security_binding_network_id ON security_binding (network_id);

CREATE INDEX ix_security_binding_target_id ON security_binding (target_id);

CREATE TABLE floating_address (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    pool_id TEXT NOT NULL,
    address INET NOT NULL,
    port_id TEXT,
    network_id TEXT,
    egress BOOLEAN DEFAULT false NOT NULL,
    CONSTRAINT pk_floating_address PRIMARY KEY (id),
    CONSTRAINT uq_floating_address_project_id_name UNIQUE (project_id, name),
    CONSTRAINT fk_floating_address_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_floating_address_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_floating_address_pool_id FOREIGN KEY(pool_id) REFERENCES address_pool (id),
    CONSTRAINT uq_floating_address_address UNIQUE (address),
    CONSTRAINT uq_floating_address_port_id UNIQUE (port_id),
    CONSTRAINT fk_floating_address_port_id FOREIGN KEY(port_id) REFERENCES port (id),
    CONSTRAINT fk_floating_address_network_id FOREIGN KEY(network_id) REFERENCES network (id)
);

CREATE INDEX ix_floating_address_network_id ON floating_address (network_id);

CREATE INDEX ix_floating_address_pool_id ON floating_address (pool_id);

CREATE INDEX ix_floating_address_tenant_id ON floating_address (tenant_id);

CREATE TABLE dns_record (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    network_id TEXT NOT NULL,
    type TEXT NOT NULL,
    value TEXT NOT NULL,
    CONSTRAINT pk_dns_record PRIMARY KEY (id),
    CONSTRAINT uq_dns_record_network_id_name_type_value UNIQUE (network_id, name, type, value),
    CONSTRAINT fk_dns_record_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_dns_record_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_dns_record_network_id FOREIGN KEY(network_id) REFERENCES network (id)
);

CREATE INDEX ix_dns_record_tenant_id ON dns_record (tenant_id);

CREATE TABLE network_route (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    network_id TEXT NOT NULL,
    prefix CIDR NOT NULL,
    port_id TEXT NOT NULL,
    CONSTRAINT pk_network_route PRIMARY KEY (id),
    CONSTRAINT uq_network_route_network_id_name UNIQUE (network_id, name),
    CONSTRAINT uq_network_route_network_id_prefix UNIQUE (network_id, prefix),
    CONSTRAINT fk_network_route_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_network_route_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_network_route_network_id FOREIGN KEY(network_id) REFERENCES network (id),
    CONSTRAINT fk_network_route_port_id FOREIGN KEY(port_id) REFERENCES port (id)
);

CREATE INDEX ix_network_route_port_id ON network_route (port_id);

CREATE INDEX ix_network_route_tenant_id ON network_route (tenant_id);

CREATE TABLE network_peering (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    network_id TEXT NOT NULL,
    peer_network_id TEXT NOT NULL,
    peer_tenant_id TEXT NOT NULL,
    state TEXT NOT NULL,
    CONSTRAINT pk_network_peering PRIMARY KEY (id),
    CONSTRAINT uq_network_peering_network_id_peer_network_id UNIQUE (network_id, peer_network_id),
    CONSTRAINT ck_network_peering_two_networks CHECK (network_id <> peer_network_id),
    CONSTRAINT fk_network_peering_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_network_peering_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_network_peering_network_id FOREIGN KEY(network_id) REFERENCES network (id),
    CONSTRAINT fk_network_peering_peer_network_id FOREIGN KEY(peer_network_id) REFERENCES network (id)
);

CREATE INDEX ix_network_peering_peer_tenant_id ON network_peering (peer_tenant_id);

CREATE INDEX ix_network_peering_tenant_id ON network_peering (tenant_id);

CREATE TABLE network_host (
    node_id TEXT NOT NULL,
    slot INTEGER NOT NULL,
    underlay_address INET NOT NULL,
    external_bridge TEXT,
    driver TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_network_host PRIMARY KEY (node_id),
    CONSTRAINT fk_network_host_node_id FOREIGN KEY(node_id) REFERENCES node (id),
    CONSTRAINT uq_network_host_slot UNIQUE (slot),
    CONSTRAINT uq_network_host_underlay_address UNIQUE (underlay_address)
);

-- An allocation may carry a network instead of a service.
ALTER TABLE allocation ALTER COLUMN service_id DROP NOT NULL;
ALTER TABLE allocation ADD COLUMN network_id text;
CREATE UNIQUE INDEX uq_allocation_network_id ON allocation (network_id, node_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'network', 'subnet', 'port', 'security_group', 'security_rule', 'security_binding', 'floating_address',
        'dns_record', 'network_route'
    ] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant_wall ON %I USING ('
            '(SELECT current_setting(''penstock.scope'', true)) = ''*'' '
            'OR tenant_id = (SELECT current_setting(''penstock.scope'', true)))',
            name
        );
    END LOOP;
END
$$;

-- A peering has two sides: both see it.
ALTER TABLE network_peering ENABLE ROW LEVEL SECURITY;
ALTER TABLE network_peering FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_wall ON network_peering USING (
    (SELECT current_setting('penstock.scope', true)) = '*'
    OR tenant_id = (SELECT current_setting('penstock.scope', true))
    OR peer_tenant_id = (SELECT current_setting('penstock.scope', true)));
