-- Secrets of projects, files, batches; models with licence, origin, approval and adapters. Frozen as released.

CREATE TABLE secret (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    sealed TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_by TEXT NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_secret PRIMARY KEY (id),
    CONSTRAINT fk_secret_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_secret_project_id FOREIGN KEY(project_id) REFERENCES project (id)
);
CREATE UNIQUE INDEX uq_secret_name ON secret (project_id, name);

CREATE TABLE file (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    purpose TEXT NOT NULL,
    size_bytes BIGINT DEFAULT 0 NOT NULL,
    sha256 TEXT NOT NULL,
    content BYTEA NOT NULL,
    created_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_file PRIMARY KEY (id),
    CONSTRAINT fk_file_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_file_project_id FOREIGN KEY(project_id) REFERENCES project (id)
);
CREATE INDEX ix_file_project_id ON file (project_id);
CREATE INDEX ix_file_expires_at ON file (expires_at);

CREATE TABLE batch (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    state TEXT NOT NULL,
    wanted TEXT DEFAULT 'completed' NOT NULL,
    input_file_id TEXT NOT NULL,
    output_file_id TEXT,
    error_file_id TEXT,
    errors JSONB DEFAULT '[]'::jsonb NOT NULL,
    metadata JSONB DEFAULT '{}'::jsonb NOT NULL,
    principal_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    pass_sha256 TEXT NOT NULL,
    pass_sealed TEXT NOT NULL,
    total INTEGER DEFAULT 0 NOT NULL,
    completed INTEGER DEFAULT 0 NOT NULL,
    failed INTEGER DEFAULT 0 NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    message TEXT DEFAULT '' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    in_progress_at TIMESTAMP WITH TIME ZONE,
    finalizing_at TIMESTAMP WITH TIME ZONE,
    cancelling_at TIMESTAMP WITH TIME ZONE,
    ended_at TIMESTAMP WITH TIME ZONE,
    due_at TIMESTAMP WITH TIME ZONE,
    lease_token TEXT,
    leased_until TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_batch PRIMARY KEY (id),
    CONSTRAINT fk_batch_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_batch_project_id FOREIGN KEY(project_id) REFERENCES project (id)
);
CREATE INDEX ix_batch_project_id ON batch (project_id);
CREATE INDEX ix_batch_due ON batch (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE batch_line (
    batch_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    tenant_id TEXT NOT NULL,
    custom_id TEXT NOT NULL,
    state TEXT DEFAULT 'pending' NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    body TEXT NOT NULL,
    status_code INTEGER,
    answer TEXT,
    code TEXT,
    message TEXT,
    record_id TEXT,
    tokens BIGINT DEFAULT 0 NOT NULL,
    CONSTRAINT pk_batch_line PRIMARY KEY (batch_id, number),
    CONSTRAINT fk_batch_line_batch_id FOREIGN KEY(batch_id) REFERENCES batch (id) ON DELETE CASCADE
);
CREATE INDEX ix_batch_line_pending ON batch_line (batch_id, number) WHERE state = 'pending';

ALTER TABLE token_usage ADD COLUMN batch_id TEXT;

ALTER TABLE model ADD COLUMN origin TEXT DEFAULT '' NOT NULL;
ALTER TABLE model ADD COLUMN licence_text TEXT DEFAULT '' NOT NULL;
ALTER TABLE model ADD COLUMN needs_approval BOOLEAN DEFAULT false NOT NULL;
ALTER TABLE model ADD COLUMN base_model TEXT;

CREATE TABLE model_approval (
    model_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    note TEXT DEFAULT '' NOT NULL,
    approved_by TEXT NOT NULL,
    approved_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_model_approval PRIMARY KEY (model_id, tenant_id),
    CONSTRAINT fk_model_approval_model_id FOREIGN KEY(model_id) REFERENCES model (id),
    CONSTRAINT fk_model_approval_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id)
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['secret', 'file', 'batch', 'batch_line', 'model_approval'] LOOP
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
