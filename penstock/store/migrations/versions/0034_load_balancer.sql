-- Load balancers, frozen as released.

CREATE TABLE load_balancer (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    network_id TEXT NOT NULL,
    port_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    algorithm TEXT NOT NULL,
    listeners JSONB NOT NULL,
    members JSONB NOT NULL,
    health_check JSONB NOT NULL,
    node_id TEXT,
    wanted TEXT DEFAULT 'present' NOT NULL,
    revision BIGINT DEFAULT 1 NOT NULL,
    applied_revision BIGINT DEFAULT 0 NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE,
    seen_at TIMESTAMP WITH TIME ZONE,
    health JSONB DEFAULT '{}'::jsonb NOT NULL,
    counted JSONB DEFAULT '{}'::jsonb NOT NULL,
    sessions BIGINT DEFAULT 0 NOT NULL,
    received_bytes BIGINT DEFAULT 0 NOT NULL,
    sent_bytes BIGINT DEFAULT 0 NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_load_balancer PRIMARY KEY (id),
    CONSTRAINT uq_load_balancer_network_id_name UNIQUE (network_id, name),
    CONSTRAINT uq_load_balancer_port_id UNIQUE (port_id),
    CONSTRAINT fk_load_balancer_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_load_balancer_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_load_balancer_network_id FOREIGN KEY(network_id) REFERENCES network (id),
    CONSTRAINT fk_load_balancer_port_id FOREIGN KEY(port_id) REFERENCES port (id),
    CONSTRAINT fk_load_balancer_node_id FOREIGN KEY(node_id) REFERENCES node (id)
);
CREATE INDEX ix_load_balancer_tenant_id ON load_balancer (tenant_id);
CREATE INDEX ix_load_balancer_node_id ON load_balancer (node_id);
CREATE INDEX ix_load_balancer_due_at ON load_balancer (due_at) WHERE due_at IS NOT NULL;

ALTER TABLE allocation ADD COLUMN load_balancer_id TEXT;
CREATE UNIQUE INDEX uq_allocation_load_balancer_id ON allocation (load_balancer_id, node_id);

ALTER TABLE load_balancer ENABLE ROW LEVEL SECURITY;
ALTER TABLE load_balancer FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_wall ON load_balancer USING (
    (SELECT current_setting('penstock.scope', true)) = '*'
    OR tenant_id = (SELECT current_setting('penstock.scope', true)));
