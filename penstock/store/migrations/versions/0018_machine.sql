-- Tables of virtual machines, frozen as released.

CREATE TABLE ssh_key (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    public_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_ssh_key PRIMARY KEY (id),
    CONSTRAINT uq_ssh_key_project_id_name UNIQUE (project_id, name),
    CONSTRAINT fk_ssh_key_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_ssh_key_project_id FOREIGN KEY(project_id) REFERENCES project (id)
);
CREATE INDEX ix_ssh_key_tenant_id ON ssh_key (tenant_id);

CREATE TABLE image (
    id TEXT NOT NULL,
    tenant_id TEXT,
    project_id TEXT,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    architecture TEXT NOT NULL,
    shared BOOLEAN DEFAULT false NOT NULL,
    published BOOLEAN DEFAULT false NOT NULL,
    state TEXT NOT NULL,
    message TEXT DEFAULT '' NOT NULL,
    sha256 TEXT,
    size_bytes BIGINT DEFAULT 0 NOT NULL,
    virtual_bytes BIGINT DEFAULT 0 NOT NULL,
    provenance JSONB NOT NULL,
    created_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_image PRIMARY KEY (id),
    CONSTRAINT uq_image_project_id_name UNIQUE (project_id, name),
    CONSTRAINT fk_image_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_image_project_id FOREIGN KEY(project_id) REFERENCES project (id)
);
CREATE INDEX ix_image_tenant_id ON image (tenant_id);

CREATE TABLE vm (
    service_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    image_id TEXT NOT NULL,
    host_name TEXT NOT NULL,
    uuid TEXT NOT NULL,
    architecture TEXT NOT NULL,
    vcpus INTEGER NOT NULL,
    memory_mib INTEGER NOT NULL,
    disk_gib INTEGER NOT NULL,
    ssh_keys JSONB NOT NULL,
    user_data BYTEA NOT NULL,
    tags JSONB NOT NULL,
    nics JSONB NOT NULL,
    volumes TEXT[] DEFAULT '{}'::text[] NOT NULL,
    power TEXT DEFAULT 'on' NOT NULL,
    boots INTEGER DEFAULT 0 NOT NULL,
    restores INTEGER DEFAULT 0 NOT NULL,
    restore_from TEXT,
    move JSONB,
    generation BIGINT DEFAULT 1 NOT NULL,
    changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_vm PRIMARY KEY (service_id),
    CONSTRAINT fk_vm_service_id FOREIGN KEY(service_id) REFERENCES service (id),
    CONSTRAINT fk_vm_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_vm_image_id FOREIGN KEY(image_id) REFERENCES image (id)
);
CREATE INDEX ix_vm_image_id ON vm (image_id);
CREATE INDEX ix_vm_move ON vm (service_id) WHERE move IS NOT NULL;
CREATE INDEX ix_vm_tenant_id ON vm (tenant_id);

CREATE TABLE vm_snapshot (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_vm_snapshot PRIMARY KEY (id),
    CONSTRAINT uq_vm_snapshot_service_id_name UNIQUE (service_id, name),
    CONSTRAINT fk_vm_snapshot_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_vm_snapshot_service_id FOREIGN KEY(service_id) REFERENCES vm (service_id)
);
CREATE INDEX ix_vm_snapshot_tenant_id ON vm_snapshot (tenant_id);

CREATE TABLE vm_console (
    service_id TEXT NOT NULL,
    begin_offset BIGINT NOT NULL,
    allocation_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    content BYTEA NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_vm_console PRIMARY KEY (service_id, begin_offset, allocation_id),
    CONSTRAINT fk_vm_console_service_id FOREIGN KEY(service_id) REFERENCES vm (service_id)
);
CREATE INDEX ix_vm_console_received_at ON vm_console (received_at);

ALTER TABLE allocation ADD COLUMN detail JSONB;
CREATE INDEX ix_allocation_waiting ON allocation (id) WHERE jsonb_exists(config, 'waiting');

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['ssh_key', 'vm', 'vm_snapshot', 'vm_console'] LOOP
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

-- The operator's images are read by everybody and written by nobody else.
ALTER TABLE image ENABLE ROW LEVEL SECURITY;
ALTER TABLE image FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_wall ON image USING (
    (SELECT current_setting('penstock.scope', true)) = '*'
    OR (published AND (SELECT current_setting('penstock.scope', true)) <> '')
    OR tenant_id = (SELECT current_setting('penstock.scope', true)))
WITH CHECK (
    (SELECT current_setting('penstock.scope', true)) = '*'
    OR tenant_id = (SELECT current_setting('penstock.scope', true)));
