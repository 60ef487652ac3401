-- Certificates of projects, frozen as released.

CREATE TABLE certificate (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    source TEXT NOT NULL,
    names TEXT[] NOT NULL,
    life_days INTEGER,
    chain_pem TEXT NOT NULL,
    sealed_key TEXT NOT NULL,
    serial TEXT NOT NULL,
    fingerprint_sha256 TEXT NOT NULL,
    key_kind TEXT NOT NULL,
    issuer TEXT NOT NULL,
    version BIGINT DEFAULT 1 NOT NULL,
    created_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    begins_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    rotate_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    warned_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_certificate PRIMARY KEY (id),
    CONSTRAINT uq_certificate_project_id_name UNIQUE (project_id, name),
    CONSTRAINT fk_certificate_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_certificate_project_id FOREIGN KEY(project_id) REFERENCES project (id)
);
CREATE INDEX ix_certificate_tenant_id ON certificate (tenant_id);
CREATE INDEX ix_certificate_rotate_at ON certificate (rotate_at) WHERE rotate_at IS NOT NULL;
CREATE INDEX ix_certificate_expires_at ON certificate (expires_at);

CREATE TABLE certificate_authority (
    project_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    certificate_pem TEXT NOT NULL,
    sealed_key TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_certificate_authority PRIMARY KEY (project_id),
    CONSTRAINT fk_certificate_authority_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_certificate_authority_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id)
);
CREATE INDEX ix_certificate_authority_tenant_id ON certificate_authority (tenant_id);

CREATE TABLE certificate_serial (
    project_id TEXT NOT NULL,
    serial TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    certificate_id TEXT NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    revoked_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_certificate_serial PRIMARY KEY (project_id, serial),
    CONSTRAINT fk_certificate_serial_project_id FOREIGN KEY(project_id) REFERENCES project (id)
);
CREATE INDEX ix_certificate_serial_tenant_id ON certificate_serial (tenant_id);
CREATE INDEX ix_certificate_serial_certificate_id ON certificate_serial (certificate_id);
CREATE INDEX ix_certificate_serial_expires_at ON certificate_serial (expires_at);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['certificate', 'certificate_authority', 'certificate_serial'] LOOP
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
