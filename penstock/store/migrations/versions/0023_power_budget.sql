ALTER TABLE rack ADD COLUMN row_name TEXT;
ALTER TABLE device ADD COLUMN power_booked BOOLEAN DEFAULT false NOT NULL;
UPDATE device d SET power_booked = true WHERE booked_mask <> 0 AND EXISTS (
    SELECT FROM claim c WHERE c.device_id = d.id AND c.service_id IS NULL AND c.released_at IS NULL AND c.during IS NOT NULL);

-- What a node holds of power while it is on; whether it is on, or its power is kept for it; what is wanted and what is.
ALTER TABLE node ADD COLUMN host_mw BIGINT DEFAULT 0 NOT NULL;
ALTER TABLE node ADD COLUMN power_held BOOLEAN DEFAULT true NOT NULL;
ALTER TABLE node ADD COLUMN power_wanted TEXT DEFAULT 'on' NOT NULL;
ALTER TABLE node ADD COLUMN power_state TEXT DEFAULT 'on' NOT NULL;
ALTER TABLE node ADD COLUMN power_at TIMESTAMP WITH TIME ZONE;
UPDATE node SET host_mw = cpu_threads::bigint * 5110;

CREATE TABLE power_budget (
    id TEXT NOT NULL,
    site_id TEXT NOT NULL,
    level TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    name TEXT NOT NULL,
    limit_watts BIGINT,
    held_mw BIGINT DEFAULT 0 NOT NULL,
    generation BIGINT DEFAULT 1 NOT NULL,
    changed_xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_power_budget PRIMARY KEY (id),
    CONSTRAINT fk_power_budget_site_id FOREIGN KEY(site_id) REFERENCES site (id),
    CONSTRAINT uq_power_budget_level_subject_id UNIQUE (level, subject_id)
);
CREATE INDEX ix_power_budget_changed_xid ON power_budget (changed_xid);
CREATE TRIGGER power_budget_changed BEFORE UPDATE ON power_budget FOR EACH ROW EXECUTE FUNCTION stamp_change();

CREATE FUNCTION class_idle_mw(data jsonb) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT COALESCE((data ->> 'idle_watts')::bigint * 1000, (data ->> 'power_watts')::bigint * 1000 * 15 / 100)
$$;
CREATE FUNCTION class_load_mw(data jsonb) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT GREATEST((data ->> 'power_watts')::bigint * 1000, class_idle_mw(data))
$$;

-- Add to what budgets hold: change i is mw[i] at device devices[i] (or NULL) of node nodes[i], which is in
-- racks[i] (or NULL) and sites[i]. Budgets are locked in id order, after nodes and devices, by everybody.
CREATE FUNCTION power_shift(devices text[], nodes text[], racks text[], sites text[], mw bigint[]) RETURNS void
LANGUAGE sql AS $$
    WITH change AS (
        SELECT * FROM unnest(devices, nodes, racks, sites, mw) AS c(device_id, node_id, rack_id, site_id, mw)
    ), added AS (
        SELECT b.id, sum(c.mw)::bigint AS mw FROM change c LEFT JOIN rack r ON r.id = c.rack_id
        CROSS JOIN LATERAL (VALUES ('device', c.device_id), ('node', c.node_id), ('rack', c.rack_id),
            ('row', c.site_id || '/' || r.row_name), ('site', c.site_id)) AS s(level, subject_id)
        JOIN power_budget b ON b.level = s.level AND b.subject_id = s.subject_id AND b.limit_watts IS NOT NULL
        GROUP BY b.id HAVING sum(c.mw) <> 0
    ), locked AS MATERIALIZED (
        SELECT b.id FROM power_budget b WHERE b.id IN (SELECT id FROM added) ORDER BY b.id FOR NO KEY UPDATE
    )
    UPDATE power_budget b SET held_mw = b.held_mw + a.mw FROM added a, locked l WHERE b.id = a.id AND l.id = b.id
$$;

-- Who changes what is held takes this lock shared, who begins to count (sets a budget) alone: so nothing is missed.
-- Without budgets nothing is counted.
CREATE FUNCTION power_counts() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(5261141);
    RETURN EXISTS (SELECT FROM power_budget WHERE limit_watts IS NOT NULL);
END
$$;

CREATE FUNCTION power_follow_device() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT power_counts() THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        PERFORM power_shift(array_agg(d.id), array_agg(n.id), array_agg(n.rack_id), array_agg(n.site_id), array_agg(
                CASE WHEN n.power_held THEN class_idle_mw(c.data) ELSE 0 END))
            FROM new_rows d JOIN node n ON n.id = d.node_id AND n.state <> 'retired' JOIN device_class c ON c.name = d.device_class;
    ELSE
        PERFORM power_shift(array_agg(id), array_agg(node_id), array_agg(rack_id), array_agg(site_id), array_agg(mw)) FROM (
            SELECT d.id, n.id AS node_id, n.rack_id, n.site_id, sum(d.sign * (
                CASE WHEN n.power_held THEN class_idle_mw(c.data) ELSE 0 END
                + CASE WHEN d.used_mask <> 0 OR d.power_booked THEN class_load_mw(c.data) - class_idle_mw(c.data) ELSE 0 END))::bigint AS mw
            FROM (SELECT id, node_id, device_class, used_mask, power_booked, 1 AS sign FROM new_rows
                UNION ALL SELECT id, node_id, device_class, used_mask, power_booked, -1 FROM old_rows) AS d
            JOIN node n ON n.id = d.node_id AND n.state <> 'retired' JOIN device_class c ON c.name = d.device_class
            GROUP BY d.id, n.id) AS moved WHERE mw <> 0;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER device_power_new AFTER INSERT ON device REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION power_follow_device();
CREATE TRIGGER device_power_changed AFTER UPDATE ON device REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION power_follow_device();

CREATE FUNCTION power_follow_node() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT power_counts() THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        PERFORM power_shift(array_agg(NULL::text), array_agg(id), array_agg(rack_id), array_agg(site_id), array_agg(
                CASE WHEN power_held THEN host_mw ELSE 0 END)) FROM new_rows WHERE state <> 'retired';
    ELSE
        PERFORM power_shift(array_agg(device_id), array_agg(id), array_agg(rack_id), array_agg(site_id), array_agg(mw)) FROM (
            SELECT part.device_id, side.id, side.rack_id, side.site_id, sum(side.sign * part.mw)::bigint AS mw
            FROM new_rows n JOIN old_rows o ON o.id = n.id AND (o.site_id, o.rack_id, o.state = 'retired', o.power_held, o.host_mw)
                IS DISTINCT FROM (n.site_id, n.rack_id, n.state = 'retired', n.power_held, n.host_mw)
            CROSS JOIN LATERAL (VALUES (n.id, n.rack_id, n.site_id, n.state, n.power_held, n.host_mw, 1),
                (o.id, o.rack_id, o.site_id, o.state, o.power_held, o.host_mw, -1)) AS side(id, rack_id, site_id, state, held, host_mw, sign)
            CROSS JOIN LATERAL (
                SELECT NULL::text AS device_id, CASE WHEN side.held THEN side.host_mw ELSE 0 END AS mw
                UNION ALL SELECT d.id, CASE WHEN side.held THEN class_idle_mw(c.data) ELSE 0 END
                    + CASE WHEN d.used_mask <> 0 OR d.power_booked THEN class_load_mw(c.data) - class_idle_mw(c.data) ELSE 0 END
                FROM device d JOIN device_class c ON c.name = d.device_class WHERE d.node_id = side.id) AS part
            WHERE side.state <> 'retired'
            GROUP BY 1, 2, 3, 4) AS moved WHERE mw <> 0;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER node_power_new AFTER INSERT ON node REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION power_follow_node();
CREATE TRIGGER node_power_changed AFTER UPDATE ON node REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION power_follow_node();
