-- Tables of volumes, frozen as released.

CREATE TABLE volume (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    driver TEXT NOT NULL,
    size_gib INTEGER NOT NULL,
    sealed_key TEXT,
    node_id TEXT,
    service_id TEXT,
    attached BOOLEAN DEFAULT false NOT NULL,
    detaching BOOLEAN DEFAULT false NOT NULL,
    restores INTEGER DEFAULT 0 NOT NULL,
    restore_from TEXT,
    wanted TEXT DEFAULT 'present' NOT NULL,
    created_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    metered_until TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_volume PRIMARY KEY (id),
    CONSTRAINT uq_volume_project_id_name UNIQUE (project_id, name),
    CONSTRAINT fk_volume_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_volume_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_volume_node_id FOREIGN KEY(node_id) REFERENCES node (id),
    CONSTRAINT fk_volume_service_id FOREIGN KEY(service_id) REFERENCES vm (service_id)
);
CREATE INDEX ix_volume_tenant_id ON volume (tenant_id);
CREATE INDEX ix_volume_node_id ON volume (node_id);
CREATE INDEX ix_volume_service_id ON volume (service_id);
CREATE INDEX ix_volume_metered_until ON volume (metered_until);
CREATE INDEX ix_volume_open ON volume (id) WHERE wanted = 'deleted' OR detaching OR service_id IS NOT NULL AND NOT attached;

CREATE TABLE volume_snapshot (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    volume_id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_volume_snapshot PRIMARY KEY (id),
    CONSTRAINT uq_volume_snapshot_volume_id_name UNIQUE (volume_id, name),
    CONSTRAINT fk_volume_snapshot_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_volume_snapshot_volume_id FOREIGN KEY(volume_id) REFERENCES volume (id)
);
CREATE INDEX ix_volume_snapshot_tenant_id ON volume_snapshot (tenant_id);

CREATE TABLE volume_usage (
    volume_id TEXT NOT NULL,
    day DATE NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    gib_seconds BIGINT NOT NULL,
    CONSTRAINT pk_volume_usage PRIMARY KEY (volume_id, day)
);
CREATE INDEX ix_volume_usage_tenant_id ON volume_usage (tenant_id);

ALTER TABLE allocation ADD COLUMN volume_id TEXT;
CREATE UNIQUE INDEX uq_allocation_volume_id ON allocation (volume_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['volume', 'volume_snapshot', 'volume_usage'] LOOP
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
