-- The second wall between tenants: the role the product acts as, and row-level security on tenant tables.
-- A transaction sets penstock.scope to a tenant id, or to '*' for the system; unset sees nothing.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'penstock_app') THEN
        CREATE ROLE penstock_app NOLOGIN NOBYPASSRLS;
    END IF;
    IF NOT pg_has_role(current_user, 'penstock_app', 'USAGE') THEN
        EXECUTE format('GRANT penstock_app TO %I', current_user);
    END IF;
END
$$;

DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO penstock_app', current_schema());
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO penstock_app', current_schema());
    EXECUTE format('GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA %I TO penstock_app', current_schema());
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO penstock_app', current_schema());
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT USAGE, SELECT ON SEQUENCES TO penstock_app', current_schema());
END
$$;

-- What must never be rewritten, whoever asks.
REVOKE UPDATE, DELETE ON audit, event, price, price_book FROM penstock_app;
REVOKE DELETE ON segment, invoice, token_usage FROM penstock_app;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'project', 'principal', 'role_binding', 'api_key', 'quota', 'quota_use', 'service', 'claim',
        'allocation', 'decision', 'segment', 'token_usage', 'invoice', 'invoice_line', 'event', 'audit'
    ] LOOP
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

-- A final invoice and its lines stand for ever; corrections are invoices of their own.
CREATE FUNCTION refuse_change_of_final_invoice() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'invoice' THEN
        IF OLD.state = 'final' THEN
            RAISE EXCEPTION 'a final invoice cannot be changed' USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF EXISTS (SELECT FROM invoice WHERE id IN (OLD.invoice_id, NEW.invoice_id) AND state = 'final') THEN
        RAISE EXCEPTION 'a line of a final invoice cannot be changed' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN COALESCE(NEW, OLD);
END
$$;
CREATE TRIGGER invoice_final BEFORE UPDATE ON invoice
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_final_invoice();
CREATE TRIGGER invoice_line_final BEFORE INSERT OR UPDATE OR DELETE ON invoice_line
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_final_invoice();

-- Stamp the last change, so that readers can ask what changed since they looked.
CREATE FUNCTION stamp_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_xid := pg_current_xact_id();
    RETURN NEW;
END
$$;
CREATE TRIGGER node_changed BEFORE UPDATE ON node FOR EACH ROW EXECUTE FUNCTION stamp_change();
CREATE TRIGGER device_changed BEFORE UPDATE ON device FOR EACH ROW EXECUTE FUNCTION stamp_change();
-- An agent must hear of new wishes, not of its own reports coming back.
CREATE TRIGGER allocation_changed BEFORE UPDATE OF wanted, generation, config ON allocation
    FOR EACH ROW EXECUTE FUNCTION stamp_change();
