"""What is charged by the time that it is held, as one relation: shapes of machines, sizes of volumes, snapshots."""

# Columns: tenant_id, project_id, service_id (of a volume: its id; of a snapshot: of what it is of), price_book_id, item, simulated, start_at, end_at, and
# meter with its amount and how many of it for a microsecond one price is for.
HELD_TIME = """(
    SELECT t.tenant_id, t.project_id, t.service_id, t.price_book_id, t.architecture AS item, t.simulated,
        t.start_at, t.end_at, m.meter, CAST(m.amount AS bigint) AS amount, CAST(m.per_unit AS bigint) AS per_unit
    FROM vm_time t CROSS JOIN LATERAL (
        VALUES ('vcpu_hours', t.vcpus, 3600000000), ('memory_gib_hours', t.memory_mib, 1024 * 3600000000),
            ('disk_gib_hours', t.disk_gib, 3600000000)
    ) AS m (meter, amount, per_unit)
    UNION ALL
    SELECT tenant_id, project_id, volume_id, price_book_id, driver, false, start_at, end_at, 'volume_gib_hours',
        CAST(size_gib AS bigint), 3600000000
    FROM volume_time
    UNION ALL
    SELECT tenant_id, project_id, of_id, price_book_id, driver, false, start_at, end_at, 'snapshot_gib_hours',
        CAST(size_mib AS bigint), 1024 * 3600000000
    FROM snapshot_time
)"""
