"""What is kept for a time is removed after it: events and the audit trail by one guarded function.

Revision: 0003, after: 0002. The application still cannot delete from either table. The function removes the
oldest rows only, and none of the last 30 days before the newest row, whatever it is asked.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_FUNCTION = """
DO $outer$
BEGIN
    EXECUTE format($inner$
        CREATE FUNCTION remove_old_records(what text, before timestamptz, batch int) RETURNS int
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = %I, pg_temp AS $body$
        DECLARE
            newest timestamptz;
            removed int;
        BEGIN
            IF what NOT IN ('event', 'audit') THEN
                RAISE EXCEPTION 'records of %% are not removed by age', what USING ERRCODE = 'insufficient_privilege';
            END IF;
            EXECUTE format('SELECT at FROM %%I ORDER BY id DESC LIMIT 1', what) INTO newest;
            IF before > newest - interval '30 days' THEN
                RAISE EXCEPTION 'the last 30 days of %% stay', what USING ERRCODE = 'insufficient_privilege';
            END IF;
            EXECUTE format(
                'DELETE FROM %%I WHERE id IN ('
                'SELECT id FROM (SELECT id, at FROM %%I ORDER BY id LIMIT $2) AS oldest WHERE at < $1)', what, what)
                USING before, least(batch, 10000);
            GET DIAGNOSTICS removed = ROW_COUNT;
            RETURN removed;
        END
        $body$
    $inner$, current_schema());
END
$outer$
"""


def upgrade() -> None:
    connection = op.get_bind()
    connection.exec_driver_sql(_FUNCTION.replace("%", "%%"))
    connection.exec_driver_sql("REVOKE ALL ON FUNCTION remove_old_records FROM PUBLIC")
    connection.exec_driver_sql("GRANT EXECUTE ON FUNCTION remove_old_records TO penstock_app")


def downgrade() -> None:
    op.get_bind().exec_driver_sql("DROP FUNCTION remove_old_records")
