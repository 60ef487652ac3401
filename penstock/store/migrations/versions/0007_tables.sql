-- Tables of knowledge bases, frozen as released.

ALTER TABLE model ADD COLUMN kind TEXT DEFAULT 'generation' NOT NULL;
ALTER TABLE model ADD COLUMN dimensions INTEGER;

CREATE TABLE knowledge_base (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    service_id TEXT NOT NULL,
    model TEXT NOT NULL,
    dimensions INTEGER NOT NULL,
    language TEXT NOT NULL,
    chunk_characters INTEGER NOT NULL,
    overlap_characters INTEGER NOT NULL,
    wanted TEXT DEFAULT 'active' NOT NULL,
    proof_id TEXT,
    created_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    metered_until TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_knowledge_base PRIMARY KEY (id),
    CONSTRAINT fk_knowledge_base_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_knowledge_base_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_knowledge_base_service_id FOREIGN KEY(service_id) REFERENCES service (id)
);
CREATE INDEX ix_knowledge_base_metered_until ON knowledge_base (metered_until);
CREATE INDEX ix_knowledge_base_tenant_id ON knowledge_base (tenant_id);
CREATE UNIQUE INDEX uq_knowledge_base_name ON knowledge_base (project_id, name);
CREATE TABLE document (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    knowledge_base_id TEXT NOT NULL,
    name TEXT NOT NULL,
    source_url TEXT,
    media_type TEXT,
    wanted TEXT DEFAULT 'indexed' NOT NULL,
    version INTEGER NOT NULL,
    indexed_version INTEGER,
    state TEXT NOT NULL,
    reason TEXT DEFAULT 'none' NOT NULL,
    message TEXT DEFAULT '' NOT NULL,
    size_bytes BIGINT DEFAULT 0 NOT NULL,
    sha256 TEXT,
    pages INTEGER,
    characters BIGINT DEFAULT 0 NOT NULL,
    chunks_total INTEGER,
    chunks_done INTEGER DEFAULT 0 NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    proof_id TEXT,
    created_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    indexed_at TIMESTAMP WITH TIME ZONE,
    due_at TIMESTAMP WITH TIME ZONE,
    lease_token TEXT,
    leased_until TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_document PRIMARY KEY (id),
    CONSTRAINT fk_document_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_document_knowledge_base_id FOREIGN KEY(knowledge_base_id) REFERENCES knowledge_base (id)
);
CREATE INDEX ix_document_due_at ON document (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ix_document_tenant_id ON document (tenant_id);
CREATE UNIQUE INDEX uq_document_name ON document (knowledge_base_id, name);
CREATE TABLE document_version (
    document_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    tenant_id TEXT NOT NULL,
    sha256 TEXT,
    size_bytes BIGINT DEFAULT 0 NOT NULL,
    media_type TEXT,
    content BYTEA,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    indexed_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_document_version PRIMARY KEY (document_id, version),
    CONSTRAINT fk_document_version_document_id FOREIGN KEY(document_id) REFERENCES document (id)
);
CREATE TABLE deletion_proof (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    knowledge_base_id TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    state TEXT NOT NULL,
    report JSONB,
    signed_text TEXT,
    signature TEXT,
    public_key TEXT,
    requested_by TEXT NOT NULL,
    requested_at TIMESTAMP WITH TIME ZONE NOT NULL,
    signed_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_deletion_proof PRIMARY KEY (id)
);
CREATE INDEX ix_deletion_proof_tenant_id ON deletion_proof (tenant_id);
CREATE TABLE knowledge_usage (
    knowledge_base_id TEXT NOT NULL,
    day DATE NOT NULL,
    meter TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    quantity BIGINT NOT NULL,
    CONSTRAINT pk_knowledge_usage PRIMARY KEY (knowledge_base_id, day, meter)
);
CREATE INDEX ix_knowledge_usage_tenant_id_day ON knowledge_usage (tenant_id, day);
