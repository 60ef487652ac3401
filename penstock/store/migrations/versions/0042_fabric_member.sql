-- The engine drives partitions: what became of each, and which nodes are in it, join it, leave it, or cannot.
ALTER TABLE fabric_partition
    ADD COLUMN wanted TEXT DEFAULT 'present' NOT NULL,
    ADD COLUMN automatic BOOLEAN DEFAULT false NOT NULL,
    ADD COLUMN state TEXT DEFAULT 'ready' NOT NULL,
    ADD COLUMN reason TEXT DEFAULT '' NOT NULL,
    ADD COLUMN attempts INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN repairs INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN due_at TIMESTAMP WITH TIME ZONE;
CREATE INDEX ix_fabric_partition_due_at ON fabric_partition (due_at) WHERE due_at IS NOT NULL;
UPDATE fabric_partition SET due_at = now();

CREATE TABLE fabric_member (
    partition_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT DEFAULT '' NOT NULL,
    since TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_fabric_member PRIMARY KEY (partition_id, node_id),
    CONSTRAINT fk_fabric_member_partition_id FOREIGN KEY(partition_id) REFERENCES fabric_partition (id) ON DELETE CASCADE,
    CONSTRAINT fk_fabric_member_node_id FOREIGN KEY(node_id) REFERENCES node (id)
);
CREATE INDEX ix_fabric_member_node_id ON fabric_member (node_id);
ALTER TABLE fabric_member ENABLE ROW LEVEL SECURITY;
ALTER TABLE fabric_member FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_wall ON fabric_member USING (
    (SELECT current_setting('penstock.scope', true)) = '*'
    OR tenant_id = (SELECT current_setting('penstock.scope', true)));

ALTER TABLE node ADD COLUMN kept_for TEXT;
CREATE INDEX ix_node_kept_for ON node (kept_for) WHERE kept_for IS NOT NULL;

ALTER TABLE allocation
    ADD COLUMN fabric_partition_id TEXT,
    ADD COLUMN isolating BOOLEAN DEFAULT false NOT NULL;
CREATE UNIQUE INDEX uq_allocation_fabric_partition_id ON allocation (fabric_partition_id, node_id);
CREATE INDEX ix_allocation_isolating ON allocation (id) WHERE isolating;
-- Whoever stops to wait is a wish from then on.
DROP TRIGGER allocation_changed ON allocation;
CREATE TRIGGER allocation_changed BEFORE UPDATE OF wanted, generation, config, isolating ON allocation
    FOR EACH ROW EXECUTE FUNCTION stamp_change();
