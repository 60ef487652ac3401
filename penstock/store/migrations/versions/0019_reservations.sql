-- Reservations, frozen as released.

CREATE TABLE reservation (
    id TEXT NOT NULL,
    tenant_id TEXT,
    project_id TEXT,
    offer_id TEXT,
    price_book_id TEXT,
    purpose TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    kind TEXT,
    spec JSONB NOT NULL,
    holds JSONB NOT NULL,
    device_class TEXT,
    device_count INTEGER NOT NULL,
    simulated BOOLEAN NOT NULL,
    wanted TEXT DEFAULT 'kept' NOT NULL,
    state TEXT NOT NULL,
    start_at TIMESTAMP WITH TIME ZONE NOT NULL,
    end_at TIMESTAMP WITH TIME ZONE NOT NULL,
    no_show_after_s INTEGER,
    own_service_id TEXT,
    used_at TIMESTAMP WITH TIME ZONE,
    active_at TIMESTAMP WITH TIME ZONE,
    over_at TIMESTAMP WITH TIME ZONE,
    due_at TIMESTAMP WITH TIME ZONE,
    generation BIGINT DEFAULT 1 NOT NULL,
    created_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_reservation PRIMARY KEY (id),
    CONSTRAINT fk_reservation_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_reservation_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT fk_reservation_offer_id FOREIGN KEY(offer_id) REFERENCES offer (id),
    CONSTRAINT fk_reservation_price_book_id FOREIGN KEY(price_book_id) REFERENCES price_book (id),
    CONSTRAINT ck_reservation_forward CHECK (end_at > start_at)
);
CREATE INDEX ix_reservation_due_at ON reservation (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ix_reservation_tenant_id_id ON reservation (tenant_id, id);
CREATE UNIQUE INDEX uq_reservation_live_name ON reservation (project_id, name) WHERE state IN ('booked', 'opening', 'active');

ALTER TABLE reservation ENABLE ROW LEVEL SECURITY;
ALTER TABLE reservation FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_wall ON reservation USING (
    (SELECT current_setting('penstock.scope', true)) = '*'
    OR tenant_id = (SELECT current_setting('penstock.scope', true))
);

-- A claim without a service is a booking: what its reservation holds of the calendar.
ALTER TABLE claim ALTER COLUMN service_id DROP NOT NULL;
ALTER TABLE claim ALTER COLUMN allocation_id DROP NOT NULL;
ALTER TABLE claim ALTER COLUMN tenant_id DROP NOT NULL;
ALTER TABLE claim ALTER COLUMN project_id DROP NOT NULL;
ALTER TABLE claim ADD COLUMN reservation_id TEXT;
ALTER TABLE claim ADD CONSTRAINT fk_claim_reservation_id FOREIGN KEY(reservation_id) REFERENCES reservation (id);
ALTER TABLE claim ADD COLUMN ends_at TIMESTAMP WITH TIME ZONE;
ALTER TABLE claim ADD COLUMN during TSTZRANGE;
UPDATE claim SET during = tstzrange(held_from, NULL) WHERE released_at IS NULL AND NOT preemptible AND units IS NOT NULL;
ALTER TABLE claim DROP CONSTRAINT ex_claim_units;
ALTER TABLE claim ADD CONSTRAINT ex_claim_units EXCLUDE USING gist (units WITH &&)
    WHERE (released_at IS NULL AND service_id IS NOT NULL);
ALTER TABLE claim ADD CONSTRAINT ex_claim_calendar EXCLUDE USING gist (units WITH &&, during WITH &&)
    WHERE (released_at IS NULL AND during IS NOT NULL);
CREATE INDEX ix_claim_booked ON claim (device_id) WHERE service_id IS NULL AND released_at IS NULL;
CREATE INDEX ix_claim_leaving ON claim (device_id) WHERE ends_at IS NOT NULL AND service_id IS NOT NULL AND released_at IS NULL;
CREATE INDEX ix_claim_reservation_id ON claim (reservation_id) WHERE reservation_id IS NOT NULL;

ALTER TABLE device ADD COLUMN booked_mask BIGINT DEFAULT 0 NOT NULL;
ALTER TABLE node ADD COLUMN maintenance BOOLEAN DEFAULT false NOT NULL;
ALTER TABLE node ADD COLUMN maintenance_from TIMESTAMP WITH TIME ZONE;
ALTER TABLE service ADD COLUMN reservation_id TEXT;
ALTER TABLE service ADD CONSTRAINT fk_service_reservation_id FOREIGN KEY(reservation_id) REFERENCES reservation (id);
ALTER TABLE service ADD COLUMN ends_at TIMESTAMP WITH TIME ZONE;
ALTER TABLE service ADD COLUMN duration_s INTEGER;
CREATE INDEX ix_service_ends_at ON service (ends_at) WHERE ends_at IS NOT NULL AND wanted = 'running' AND state NOT IN ('released', 'failed');
CREATE INDEX ix_service_reservation_id ON service (reservation_id) WHERE reservation_id IS NOT NULL;
