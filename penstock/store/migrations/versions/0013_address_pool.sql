-- Which outside addresses are taken is for every tenant to see, by whom is not: these functions look at all rows.
-- They widen the scope and put the caller's back: a setting in the function's head is for superusers only, and an error undoes both.
CREATE FUNCTION pool_free_address(pool text) RETURNS inet LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    held address_pool%ROWTYPE;
    found inet;
    caller text := coalesce(current_setting('penstock.scope', true), '');
BEGIN
    PERFORM set_config('penstock.scope', '*', true);
    SELECT * INTO held FROM address_pool WHERE id = pool FOR NO KEY UPDATE;
    SELECT candidate INTO found FROM (
        SELECT set_masklen(held.prefix::inet, 32) + 1 AS candidate
        UNION ALL SELECT address + 1 FROM floating_address WHERE pool_id = pool
        UNION ALL SELECT set_masklen(held.gateway, 32) + 1
    ) AS candidates
    WHERE candidate <<= held.prefix AND candidate < set_masklen(broadcast(held.prefix::inet), 32)
        AND candidate > set_masklen(held.prefix::inet, 32) AND candidate <> held.gateway
        AND NOT EXISTS (SELECT FROM floating_address f WHERE f.address = candidate)
    ORDER BY candidate LIMIT 1;
    PERFORM set_config('penstock.scope', caller, true);
    RETURN found;
END
$$;

CREATE FUNCTION pool_taken() RETURNS TABLE (pool_id text, taken bigint)
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    caller text := coalesce(current_setting('penstock.scope', true), '');
BEGIN
    PERFORM set_config('penstock.scope', '*', true);
    RETURN QUERY SELECT f.pool_id, count(*) FROM floating_address f GROUP BY f.pool_id;
    PERFORM set_config('penstock.scope', caller, true);
END
$$;

DO $$
DECLARE
    called regprocedure;
BEGIN
    FOR called IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND proname IN ('pool_free_address', 'pool_taken')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', called, current_schema());
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', called);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO penstock_app', called);
    END LOOP;
END
$$;
