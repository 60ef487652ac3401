-- Partitions of the InfiniBand fabric; a key is one project's at a time.
CREATE TABLE fabric_partition (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT DEFAULT '' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    pkey INTEGER NOT NULL,
    node_ids TEXT[] NOT NULL,
    CONSTRAINT pk_fabric_partition PRIMARY KEY (id),
    CONSTRAINT uq_fabric_partition_project_id_name UNIQUE (project_id, name),
    CONSTRAINT ck_fabric_partition_pkey CHECK (pkey BETWEEN 1 AND 32766),
    CONSTRAINT fk_fabric_partition_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenant (id),
    CONSTRAINT fk_fabric_partition_project_id FOREIGN KEY(project_id) REFERENCES project (id),
    CONSTRAINT uq_fabric_partition_pkey UNIQUE (pkey)
);

CREATE INDEX ix_fabric_partition_tenant_id ON fabric_partition (tenant_id);

ALTER TABLE fabric_partition ENABLE ROW LEVEL SECURITY;
ALTER TABLE fabric_partition FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_wall ON fabric_partition USING (
    (SELECT current_setting('penstock.scope', true)) = '*'
    OR tenant_id = (SELECT current_setting('penstock.scope', true)));

-- Which keys are taken is asked of all rows; who asks waits for who asked before.
CREATE FUNCTION fabric_free_pkey() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    found int;
    caller text := coalesce(current_setting('penstock.scope', true), '');
BEGIN
    PERFORM pg_advisory_xact_lock(5261131);
    PERFORM set_config('penstock.scope', '*', true);  -- put back below; an error undoes it
    SELECT candidate INTO found FROM (SELECT 1 AS candidate UNION ALL SELECT pkey + 1 FROM fabric_partition) AS candidates
        WHERE candidate <= 32766 AND NOT EXISTS (SELECT FROM fabric_partition p WHERE p.pkey = candidate)
        ORDER BY candidate LIMIT 1;
    PERFORM set_config('penstock.scope', caller, true);
    RETURN found;
END
$$;

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION fabric_free_pkey() SET search_path = %I, pg_temp', current_schema());
    REVOKE ALL ON FUNCTION fabric_free_pkey() FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION fabric_free_pkey() TO penstock_app;
END
$$;
