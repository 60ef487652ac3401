-- What hosts tell of packets; see store/schema/flow.py.

ALTER TABLE network ADD COLUMN flow_log TEXT DEFAULT 'drops' NOT NULL;

CREATE TABLE flow (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    network_id TEXT NOT NULL,
    port_id TEXT,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    verdict TEXT NOT NULL,
    rule TEXT NOT NULL,
    protocol TEXT NOT NULL,
    source INET,
    target INET,
    source_port INTEGER,
    target_port INTEGER,
    CONSTRAINT pk_flow PRIMARY KEY (id)
);

CREATE INDEX ix_flow_network_id_id ON flow (network_id, id);

CREATE INDEX ix_flow_tenant_id_id ON flow (tenant_id, id);

CREATE INDEX ix_flow_at ON flow (at);

CREATE TABLE port_counter (
    port_id TEXT NOT NULL,
    received_bytes BIGINT NOT NULL,
    received_packets BIGINT NOT NULL,
    received_drops BIGINT NOT NULL,
    sent_bytes BIGINT NOT NULL,
    sent_packets BIGINT NOT NULL,
    sent_drops BIGINT NOT NULL,
    counted_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_port_counter PRIMARY KEY (port_id)
);

ALTER TABLE flow ENABLE ROW LEVEL SECURITY;
ALTER TABLE flow FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_wall ON flow USING (
    (SELECT current_setting('penstock.scope', true)) = '*'
    OR tenant_id = (SELECT current_setting('penstock.scope', true)));
