-- What tenants say to the world; see store/schema/public_record.py.

CREATE TABLE public_record (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    type TEXT NOT NULL,
    value TEXT NOT NULL,
    ttl_seconds INTEGER NOT NULL,
    CONSTRAINT pk_public_record PRIMARY KEY (id),
    CONSTRAINT uq_public_record_tenant_id_name_type_value UNIQUE (tenant_id, name, type, value),
    CONSTRAINT fk_public_record_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_public_record_project_id FOREIGN KEY(project_id) REFERENCES project (id)
);

CREATE INDEX ix_public_record_project_id ON public_record (project_id);

ALTER TABLE public_record ENABLE ROW LEVEL SECURITY;
ALTER TABLE public_record FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_wall ON public_record USING (
    (SELECT current_setting('penstock.scope', true)) = '*'
    OR tenant_id = (SELECT current_setting('penstock.scope', true)));
