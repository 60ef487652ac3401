-- The tables of the spine, in order of dependence. Frozen: later changes are later migrations.

CREATE SEQUENCE device_unit AS BIGINT INCREMENT BY 64 START WITH 64;

CREATE TABLE agent (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    transport TEXT NOT NULL,
    certificate_sha256 TEXT,
    certificate_expires_at TIMESTAMP WITH TIME ZONE,
    state TEXT NOT NULL,
    last_seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_agent PRIMARY KEY (id),
    CONSTRAINT uq_agent_certificate_sha256 UNIQUE (certificate_sha256)
);

CREATE TABLE audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    tenant_id TEXT,
    principal_id TEXT NOT NULL,
    key_id TEXT,
    action TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    outcome TEXT NOT NULL,
    source_address TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    request_id TEXT NOT NULL,
    detail JSONB NOT NULL,
    CONSTRAINT pk_audit PRIMARY KEY (id)
);

CREATE INDEX ix_audit_tenant_id_id ON audit (tenant_id, id);

CREATE TABLE device_class (
    name TEXT NOT NULL,
    data JSONB NOT NULL,
    CONSTRAINT pk_device_class PRIMARY KEY (name)
);

CREATE TABLE event (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    tenant_id TEXT,
    project_id TEXT,
    kind TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    data JSONB NOT NULL,
    changed_xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    CONSTRAINT pk_event PRIMARY KEY (id)
);

CREATE INDEX ix_event_subject_id_id ON event (subject_id, id);

CREATE INDEX ix_event_tenant_id_id ON event (tenant_id, id);

CREATE TABLE model (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    format TEXT NOT NULL,
    folder TEXT NOT NULL,
    size_bytes BIGINT DEFAULT 0 NOT NULL,
    parameters BIGINT DEFAULT 0 NOT NULL,
    context_tokens INTEGER NOT NULL,
    licence TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    engines TEXT[] NOT NULL,
    device_classes TEXT[] NOT NULL,
    demonstration BOOLEAN NOT NULL,
    state TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_model PRIMARY KEY (id),
    CONSTRAINT uq_model_name UNIQUE (name)
);

CREATE TABLE offer (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    description TEXT NOT NULL,
    form JSONB NOT NULL,
    fixed JSONB NOT NULL,
    eligible_tenants TEXT[],
    state TEXT NOT NULL,
    generation BIGINT DEFAULT 1 NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_offer PRIMARY KEY (id),
    CONSTRAINT uq_offer_name UNIQUE (name)
);

CREATE TABLE price_book (
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    note TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_price_book PRIMARY KEY (id),
    CONSTRAINT uq_price_book_version UNIQUE (version)
);

CREATE TABLE setting (
    name TEXT NOT NULL,
    value JSONB NOT NULL,
    CONSTRAINT pk_setting PRIMARY KEY (name)
);

CREATE TABLE site (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    simulated BOOLEAN NOT NULL,
    timezone TEXT DEFAULT 'UTC' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_site PRIMARY KEY (id),
    CONSTRAINT uq_site_name UNIQUE (name)
);

CREATE TABLE tenant (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    state TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_tenant PRIMARY KEY (id),
    CONSTRAINT uq_tenant_name UNIQUE (name)
);

CREATE TABLE token_usage (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    principal_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    allocation_id TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    model TEXT NOT NULL,
    price_book_id TEXT NOT NULL,
    prompt_tokens BIGINT DEFAULT 0 NOT NULL,
    completion_tokens BIGINT DEFAULT 0 NOT NULL,
    ending TEXT NOT NULL,
    streamed BOOLEAN NOT NULL,
    estimated BOOLEAN NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    first_token_at TIMESTAMP WITH TIME ZONE,
    ended_at TIMESTAMP WITH TIME ZONE NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_token_usage PRIMARY KEY (id)
);

CREATE INDEX ix_token_usage_service_id ON token_usage (service_id);

CREATE INDEX ix_token_usage_tenant_id_ended_at ON token_usage (tenant_id, ended_at);

CREATE TABLE invoice (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    number TEXT,
    period_start TIMESTAMP WITH TIME ZONE NOT NULL,
    period_end TIMESTAMP WITH TIME ZONE NOT NULL,
    state TEXT NOT NULL,
    total_microeur BIGINT DEFAULT 0 NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    final_at TIMESTAMP WITH TIME ZONE,
    corrects_invoice_id TEXT,
    CONSTRAINT pk_invoice PRIMARY KEY (id),
    CONSTRAINT fk_invoice_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT uq_invoice_number UNIQUE (number),
    CONSTRAINT fk_invoice_corrects_invoice_id FOREIGN KEY(corrects_invoice_id) REFERENCES invoice (id)
);

CREATE INDEX ix_invoice_corrects_invoice_id ON invoice (corrects_invoice_id) WHERE corrects_invoice_id IS NOT NULL;

CREATE UNIQUE INDEX uq_invoice_period ON invoice (tenant_id, period_start) WHERE corrects_invoice_id IS NULL;

CREATE TABLE join_token (
    id TEXT NOT NULL,
    secret_sha256 TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    used_by_agent_id TEXT,
    CONSTRAINT pk_join_token PRIMARY KEY (id),
    CONSTRAINT fk_join_token_used_by_agent_id FOREIGN KEY(used_by_agent_id) REFERENCES agent (id)
);

CREATE TABLE power_feed (
    id TEXT NOT NULL,
    site_id TEXT NOT NULL,
    name TEXT NOT NULL,
    level TEXT NOT NULL,
    budget_watts BIGINT DEFAULT 0 NOT NULL,
    CONSTRAINT pk_power_feed PRIMARY KEY (id),
    CONSTRAINT uq_power_feed_site_id_name UNIQUE (site_id, name),
    CONSTRAINT fk_power_feed_site_id FOREIGN KEY(site_id) REFERENCES site (id)
);

CREATE TABLE price (
    price_book_id TEXT NOT NULL,
    meter TEXT NOT NULL,
    item TEXT NOT NULL,
    microeur_per_unit BIGINT DEFAULT 0 NOT NULL,
    CONSTRAINT pk_price PRIMARY KEY (price_book_id, meter, item),
    CONSTRAINT fk_price_price_book_id FOREIGN KEY(price_book_id) REFERENCES price_book (id)
);

CREATE TABLE principal (
    id TEXT NOT NULL,
    tenant_id TEXT,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    password_hash TEXT,
    disabled_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_principal PRIMARY KEY (id),
    CONSTRAINT fk_principal_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id)
);

CREATE UNIQUE INDEX uq_principal_service_account_name ON principal (tenant_id, name) WHERE kind = 'service_account';

CREATE UNIQUE INDEX uq_principal_user_name ON principal (name) WHERE kind = 'user';

CREATE TABLE project (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    state TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_project PRIMARY KEY (id),
    CONSTRAINT fk_project_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id)
);

CREATE UNIQUE INDEX uq_project_name ON project (tenant_id, name) WHERE state <> 'deleted';

CREATE TABLE quota_use (
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    dimension TEXT NOT NULL,
    used BIGINT NOT NULL,
    CONSTRAINT pk_quota_use PRIMARY KEY (tenant_id, project_id, dimension),
    CONSTRAINT fk_quota_use_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id)
);

CREATE TABLE api_key (
    id TEXT NOT NULL,
    tenant_id TEXT,
    project_id TEXT,
    principal_id TEXT NOT NULL,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    secret_sha256 TEXT NOT NULL,
    scopes TEXT[] NOT NULL,
    session BOOLEAN DEFAULT false NOT NULL,
    requests_per_minute INTEGER,
    tokens_per_minute BIGINT,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_api_key PRIMARY KEY (id),
    CONSTRAINT fk_api_key_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_api_key_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_api_key_principal_id FOREIGN KEY(principal_id) REFERENCES principal (id),
    CONSTRAINT uq_api_key_prefix UNIQUE (prefix)
);

CREATE INDEX ix_api_key_principal_id ON api_key (principal_id);

CREATE INDEX ix_api_key_tenant_id ON api_key (tenant_id);

CREATE TABLE invoice_line (
    invoice_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    key_id TEXT,
    meter TEXT NOT NULL,
    item TEXT NOT NULL,
    quantity BIGINT DEFAULT 0 NOT NULL,
    quantity_unit TEXT NOT NULL,
    quantity_per_unit BIGINT NOT NULL,
    microeur_per_unit BIGINT DEFAULT 0 NOT NULL,
    amount_microeur BIGINT DEFAULT 0 NOT NULL,
    price_book_id TEXT NOT NULL,
    simulated BOOLEAN NOT NULL,
    description TEXT NOT NULL,
    kind TEXT NOT NULL,
    corrects TEXT,
    CONSTRAINT pk_invoice_line PRIMARY KEY (invoice_id, position),
    CONSTRAINT fk_invoice_line_invoice_id FOREIGN KEY(invoice_id) REFERENCES invoice (id)
);

CREATE TABLE quota (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT,
    dimension TEXT NOT NULL,
    limit_amount BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_quota PRIMARY KEY (id),
    CONSTRAINT uq_quota_tenant_id_project_id_dimension UNIQUE NULLS NOT DISTINCT (tenant_id, project_id, dimension),
    CONSTRAINT fk_quota_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_quota_project_id FOREIGN KEY(project_id) REFERENCES project (id)
);

CREATE TABLE rack (
    id TEXT NOT NULL,
    site_id TEXT NOT NULL,
    name TEXT NOT NULL,
    power_feed_id TEXT,
    CONSTRAINT pk_rack PRIMARY KEY (id),
    CONSTRAINT uq_rack_site_id_name UNIQUE (site_id, name),
    CONSTRAINT fk_rack_site_id FOREIGN KEY(site_id) REFERENCES site (id),
    CONSTRAINT fk_rack_power_feed_id FOREIGN KEY(power_feed_id) REFERENCES power_feed (id)
);

CREATE TABLE role_binding (
    id TEXT NOT NULL,
    tenant_id TEXT,
    project_id TEXT,
    principal_id TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_role_binding PRIMARY KEY (id),
    CONSTRAINT fk_role_binding_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_role_binding_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_role_binding_principal_id FOREIGN KEY(principal_id) REFERENCES principal (id)
);

CREATE INDEX ix_role_binding_principal_id ON role_binding (principal_id);

CREATE INDEX ix_role_binding_tenant_id ON role_binding (tenant_id);

CREATE TABLE service (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    offer_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    spec JSONB NOT NULL,
    holds JSONB NOT NULL,
    ordered_by TEXT NOT NULL,
    price_book_id TEXT NOT NULL,
    simulated BOOLEAN,
    wanted TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT DEFAULT 'none' NOT NULL,
    message TEXT DEFAULT '' NOT NULL,
    ends_as TEXT DEFAULT 'released' NOT NULL,
    avoid_nodes TEXT[] DEFAULT '{}'::text[] NOT NULL,
    generation BIGINT DEFAULT 1 NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE,
    lease_token TEXT,
    deadline_at TIMESTAMP WITH TIME ZONE,
    ordered_at TIMESTAMP WITH TIME ZONE NOT NULL,
    queued_at TIMESTAMP WITH TIME ZONE NOT NULL,
    placed_at TIMESTAMP WITH TIME ZONE,
    started_at TIMESTAMP WITH TIME ZONE,
    loaded_at TIMESTAMP WITH TIME ZONE,
    running_at TIMESTAMP WITH TIME ZONE,
    first_token_at TIMESTAMP WITH TIME ZONE,
    released_at TIMESTAMP WITH TIME ZONE,
    idempotency_key TEXT,
    request_sha256 TEXT NOT NULL,
    CONSTRAINT pk_service PRIMARY KEY (id),
    CONSTRAINT fk_service_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_service_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_service_offer_id FOREIGN KEY(offer_id) REFERENCES offer (id),
    CONSTRAINT fk_service_price_book_id FOREIGN KEY(price_book_id) REFERENCES price_book (id)
);

CREATE INDEX ix_service_due_at ON service (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX ix_service_tenant_id_id ON service (tenant_id, id);

CREATE UNIQUE INDEX uq_service_idempotency_key ON service (project_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE UNIQUE INDEX uq_service_live_name ON service (project_id, name) WHERE state NOT IN ('released', 'failed');

CREATE TABLE decision (
    id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    outcome TEXT NOT NULL,
    snapshot_id TEXT NOT NULL,
    policy TEXT NOT NULL,
    detail JSONB NOT NULL,
    CONSTRAINT pk_decision PRIMARY KEY (id),
    CONSTRAINT fk_decision_service_id FOREIGN KEY(service_id) REFERENCES service (id)
);

CREATE INDEX ix_decision_service_id_at ON decision (service_id, at);

CREATE TABLE node (
    id TEXT NOT NULL,
    site_id TEXT NOT NULL,
    rack_id TEXT,
    agent_id TEXT NOT NULL,
    name TEXT NOT NULL,
    simulated BOOLEAN NOT NULL,
    cordoned BOOLEAN DEFAULT false NOT NULL,
    state TEXT NOT NULL,
    state_message TEXT DEFAULT '' NOT NULL,
    architecture TEXT NOT NULL,
    cpu_model TEXT NOT NULL,
    cpu_cores INTEGER NOT NULL,
    cpu_threads INTEGER NOT NULL,
    memory_bytes BIGINT DEFAULT 0 NOT NULL,
    memory_used_bytes BIGINT DEFAULT 0 NOT NULL,
    cpu_millis BIGINT DEFAULT 0 NOT NULL,
    cpu_used_millis BIGINT DEFAULT 0 NOT NULL,
    numa JSONB NOT NULL,
    disks JSONB NOT NULL,
    nics JSONB NOT NULL,
    notes JSONB NOT NULL,
    drivers TEXT[] NOT NULL,
    leaf TEXT,
    spine TEXT,
    core TEXT,
    power_feed_id TEXT,
    generation BIGINT DEFAULT 1 NOT NULL,
    changed_xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_node PRIMARY KEY (id),
    CONSTRAINT uq_node_site_id_name UNIQUE (site_id, name),
    CONSTRAINT fk_node_site_id FOREIGN KEY(site_id) REFERENCES site (id),
    CONSTRAINT fk_node_rack_id FOREIGN KEY(rack_id) REFERENCES rack (id),
    CONSTRAINT fk_node_agent_id FOREIGN KEY(agent_id) REFERENCES agent (id),
    CONSTRAINT fk_node_power_feed_id FOREIGN KEY(power_feed_id) REFERENCES power_feed (id)
);

CREATE INDEX ix_node_agent_id ON node (agent_id);

CREATE INDEX ix_node_changed_xid ON node (changed_xid);

CREATE TABLE allocation (
    id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    driver TEXT NOT NULL,
    wanted TEXT NOT NULL,
    generation BIGINT NOT NULL,
    config JSONB NOT NULL,
    phase TEXT NOT NULL,
    phase_generation BIGINT DEFAULT 0 NOT NULL,
    code TEXT,
    message TEXT,
    endpoint TEXT,
    busy_permille SMALLINT,
    observed_at TIMESTAMP WITH TIME ZONE,
    started_at TIMESTAMP WITH TIME ZONE,
    ready_at TIMESTAMP WITH TIME ZONE,
    changed_xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    CONSTRAINT pk_allocation PRIMARY KEY (id),
    CONSTRAINT fk_allocation_service_id FOREIGN KEY(service_id) REFERENCES service (id),
    CONSTRAINT fk_allocation_node_id FOREIGN KEY(node_id) REFERENCES node (id)
);

CREATE INDEX ix_allocation_agent_id_changed_xid ON allocation (agent_id, changed_xid);

CREATE INDEX ix_allocation_node_id ON allocation (node_id);

CREATE INDEX ix_allocation_service_id ON allocation (service_id);

CREATE TABLE device (
    id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    position SMALLINT NOT NULL,
    device_class TEXT NOT NULL,
    model TEXT NOT NULL,
    vendor TEXT NOT NULL,
    memory_bytes BIGINT DEFAULT 0 NOT NULL,
    slices SMALLINT NOT NULL,
    slice_memory_bytes BIGINT DEFAULT 0 NOT NULL,
    serial TEXT,
    uuid TEXT,
    pci_address TEXT,
    numa_node SMALLINT,
    nvlink_domain TEXT,
    health TEXT NOT NULL,
    simulated BOOLEAN NOT NULL,
    used_mask BIGINT DEFAULT 0 NOT NULL,
    unit_base BIGINT DEFAULT nextval('device_unit') NOT NULL,
    generation BIGINT DEFAULT 1 NOT NULL,
    changed_xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_device PRIMARY KEY (id),
    CONSTRAINT uq_device_node_id_position UNIQUE (node_id, position),
    CONSTRAINT fk_device_node_id FOREIGN KEY(node_id) REFERENCES node (id),
    CONSTRAINT fk_device_device_class FOREIGN KEY(device_class) REFERENCES device_class (name),
    CONSTRAINT uq_device_unit_base UNIQUE (unit_base)
);

CREATE INDEX ix_device_changed_xid ON device (changed_xid);

CREATE TABLE claim (
    id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    allocation_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    device_id TEXT,
    mask BIGINT NOT NULL,
    units INT8RANGE,
    node_memory_bytes BIGINT DEFAULT 0 NOT NULL,
    node_cpu_millis BIGINT DEFAULT 0 NOT NULL,
    held_from TIMESTAMP WITH TIME ZONE NOT NULL,
    released_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_claim PRIMARY KEY (id),
    CONSTRAINT ex_claim_units EXCLUDE USING gist (units WITH &&) WHERE (released_at IS NULL),
    CONSTRAINT fk_claim_service_id FOREIGN KEY(service_id) REFERENCES service (id),
    CONSTRAINT fk_claim_node_id FOREIGN KEY(node_id) REFERENCES node (id),
    CONSTRAINT fk_claim_device_id FOREIGN KEY(device_id) REFERENCES device (id)
);

CREATE INDEX ix_claim_held_node_id ON claim (node_id) WHERE released_at IS NULL;

CREATE INDEX ix_claim_service_id ON claim (service_id);

CREATE TABLE segment (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    device_id TEXT NOT NULL,
    device_class TEXT NOT NULL,
    device_slices SMALLINT NOT NULL,
    slice_low SMALLINT NOT NULL,
    slice_high SMALLINT NOT NULL,
    start_at TIMESTAMP WITH TIME ZONE NOT NULL,
    end_at TIMESTAMP WITH TIME ZONE,
    state TEXT NOT NULL,
    cause TEXT,
    tenant_id TEXT,
    project_id TEXT,
    service_id TEXT,
    offer_id TEXT,
    price_book_id TEXT,
    simulated BOOLEAN NOT NULL,
    CONSTRAINT pk_segment PRIMARY KEY (id),
    CONSTRAINT ck_segment_forward CHECK (end_at IS NULL OR end_at >= start_at),
    CONSTRAINT ck_segment_slices CHECK (slice_low >= 0 AND slice_high > slice_low),
    CONSTRAINT fk_segment_device_id FOREIGN KEY(device_id) REFERENCES device (id)
);

CREATE INDEX ix_segment_service_id ON segment (service_id) WHERE service_id IS NOT NULL;

CREATE INDEX ix_segment_start_at ON segment USING brin (start_at);

CREATE INDEX ix_segment_tenant_id_end_at ON segment (tenant_id, end_at) WHERE tenant_id IS NOT NULL;

CREATE UNIQUE INDEX uq_segment_open ON segment (device_id, slice_low) WHERE end_at IS NULL;
