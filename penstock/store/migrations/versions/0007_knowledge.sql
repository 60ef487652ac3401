-- Where chunks live: one table per knowledge base, in a schema that the application cannot enter. It calls the
-- functions below, and each of them first finds the knowledge base in the caller's scope. So no query, however
-- wrong, can read a chunk of another tenant's, and deleting a knowledge base drops its table with every vector.
-- (Rows behind a policy would not do here: a policy keeps PostgreSQL from using the index of words, because the
-- operator that matches words is not known to keep secrets.)

CREATE SCHEMA penstock_knowledge;
REVOKE ALL ON SCHEMA penstock_knowledge FROM PUBLIC;

-- pgvector, where it is installed and may be added. Without it everything else works, and a new knowledge base says so.
DO $$
BEGIN
    CREATE EXTENSION IF NOT EXISTS vector;
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE 'pgvector is not available: %', SQLERRM;
END
$$;

-- The table of a knowledge base of the caller's scope; NULL if there is none.
CREATE FUNCTION knowledge_table(base text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('penstock_knowledge.%I', id) FROM knowledge_base
    WHERE id = base AND (
        current_setting('penstock.scope', true) = '*' OR tenant_id = current_setting('penstock.scope', true))
$$;

CREATE FUNCTION knowledge_create(base text, dimensions int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    place text := knowledge_table(base);
BEGIN
    IF place IS NULL THEN
        RAISE EXCEPTION 'no knowledge base' USING ERRCODE = 'no_data_found';
    END IF;
    IF to_regtype('halfvec') IS NULL THEN
        BEGIN
            CREATE EXTENSION IF NOT EXISTS vector;
        EXCEPTION WHEN OTHERS THEN
            RAISE EXCEPTION 'pgvector is not available: %', SQLERRM USING ERRCODE = 'feature_not_supported';
        END;
    END IF;
    EXECUTE format(
        'CREATE TABLE %s ('
        'document_id text NOT NULL, version int NOT NULL, position int NOT NULL, heading text NOT NULL, page int, '
        'start_character int NOT NULL, end_character int NOT NULL, content text NOT NULL, '
        'words tsvector NOT NULL, vector halfvec(%s) NOT NULL, PRIMARY KEY (document_id, version, position))',
        place, dimensions);
    EXECUTE format('REVOKE ALL ON %s FROM penstock_app, PUBLIC', place);
    EXECUTE format('CREATE INDEX ON %s USING gin (words)', place);
    EXECUTE format('CREATE INDEX ON %s USING hnsw (vector halfvec_cosine_ops)', place);
END
$$;

-- chunks: [{position, heading, page, start, end, content, vector: "[..]"}]
CREATE FUNCTION knowledge_add(base text, document text, of_version int, language text, chunks jsonb) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
    place text := knowledge_table(base);
    added int;
BEGIN
    IF place IS NULL THEN
        RAISE EXCEPTION 'no knowledge base' USING ERRCODE = 'no_data_found';
    END IF;
    EXECUTE format(
        'INSERT INTO %s SELECT $1, $2, c.position, c.heading, c.page, c.start, c."end", c.content, '
        'setweight(to_tsvector($3::regconfig, c.heading), ''A'') || to_tsvector($3::regconfig, c.content), '
        'c.vector::halfvec FROM jsonb_to_recordset($4) AS c('
        'position int, heading text, page int, start int, "end" int, content text, vector text) '
        'ON CONFLICT DO NOTHING', place) USING document, of_version, language, chunks;
    GET DIAGNOSTICS added = ROW_COUNT;
    RETURN added;
END
$$;

-- Remove the chunks of a document but those of the versions that stay.
CREATE FUNCTION knowledge_remove(base text, document text, keep int[]) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    place text := knowledge_table(base);
    removed int;
BEGIN
    IF place IS NULL THEN
        RETURN 0;
    END IF;
    EXECUTE format('DELETE FROM %s WHERE document_id = $1 AND NOT version = ANY($2)', place) USING document, keep;
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END
$$;

-- How many chunks, of one document or version (NULL: of all); NULL if the table is not there.
CREATE FUNCTION knowledge_count(base text, document text, of_version int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    place text := knowledge_table(base);
    found bigint;
BEGIN
    IF place IS NULL OR to_regclass(place) IS NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format(
        'SELECT count(*) FROM %s WHERE ($1 IS NULL OR document_id = $1) AND ($2 IS NULL OR version = $2)', place)
        INTO found USING document, of_version;
    RETURN found;
END
$$;

CREATE FUNCTION knowledge_drop(base text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    place text := knowledge_table(base);
BEGIN
    IF place IS NOT NULL THEN
        EXECUTE format('DROP TABLE IF EXISTS %s', place);
    END IF;
END
$$;

-- The nearest chunks of indexed versions by cosine; score is the cosine.
CREATE FUNCTION knowledge_near(base text, asked text, effort int, most int)
RETURNS TABLE (document_id text, version int, "position" int, score float8) LANGUAGE plpgsql STABLE AS $$
DECLARE
    place text := knowledge_table(base);
BEGIN
    IF place IS NULL THEN
        RETURN;
    END IF;
    PERFORM set_config('hnsw.ef_search', effort::text, true);
    PERFORM set_config('hnsw.iterative_scan', 'strict_order', true);
    RETURN QUERY EXECUTE format(
        'SELECT c.document_id, c.version, c.position, 1 - (c.vector <=> $1::halfvec) '
        'FROM %s c JOIN document d ON d.id = c.document_id AND d.indexed_version = c.version '
        'AND d.wanted = ''indexed'' ORDER BY c.vector <=> $1::halfvec LIMIT $2', place) USING asked, most;
END
$$;

-- The chunks of indexed versions that hold words of the question, best first. Rare words weigh more (the inverse
-- frequency of BM25), and words that stand nearly everywhere are left out while a rarer one is there: each
-- chunk that holds a word must be looked at.
CREATE FUNCTION knowledge_words(base text, language text, asked text, budget int, most int)
RETURNS TABLE (document_id text, version int, "position" int, score float8) LANGUAGE plpgsql STABLE AS $$
DECLARE
    place text := knowledge_table(base);
    total bigint;
    spent bigint := 0;
    frequent float8;
    known text[];
    frequencies float4[];
    word record;
    chosen text[] := '{}';
    weights float8[] := '{}';
BEGIN
    IF place IS NULL THEN
        RETURN;
    END IF;
    SELECT greatest(reltuples::bigint, 1) INTO total FROM pg_class WHERE oid = to_regclass(place);
    SELECT most_common_elems::text::text[], most_common_elem_freqs INTO known, frequencies FROM pg_stats
        WHERE schemaname = 'penstock_knowledge' AND tablename = base AND attname = 'words';
    frequent := coalesce((SELECT min(f) FROM unnest(frequencies) f WHERE f > 0), 0.01);
    FOR word IN
        SELECT lexeme, coalesce(frequencies[array_position(known, lexeme)], frequent / 2) AS share
        FROM unnest(to_tsvector(language::regconfig, asked)) ORDER BY 2, 1 LIMIT 32
    LOOP
        spent := spent + ceil(word.share * total)::bigint;
        EXIT WHEN spent > budget AND cardinality(chosen) > 0;
        chosen := chosen || word.lexeme;
        weights := weights || ln(1 + (1 - word.share + 0.5 / total) / (word.share + 0.5 / total))::float8;
    END LOOP;
    IF cardinality(chosen) = 0 THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format(
        'WITH word AS MATERIALIZED (SELECT weight, quote_literal(lexeme)::tsquery AS query '
        'FROM unnest($1::text[], $2::float8[]) AS w (lexeme, weight)), '
        'found AS MATERIALIZED (SELECT c.document_id, c.version, c.position, c.words FROM %s c '
        'WHERE c.words @@ (SELECT string_agg(query::text, '' | '')::tsquery FROM word) LIMIT $4) '
        'SELECT f.document_id, f.version, f.position, scored.score FROM found f '
        'JOIN document d ON d.id = f.document_id AND d.indexed_version = f.version AND d.wanted = ''indexed'' '
        'CROSS JOIN LATERAL (SELECT sum(weight * (1 + 4 * ts_rank(f.words, query, 1)))::float8 AS score '
        'FROM word WHERE f.words @@ query) AS scored ORDER BY 4 DESC, 1, 3 LIMIT $3', place)
        USING chosen, weights, most, 2 * budget;
END
$$;

-- What stands in chunks: keys are [{document_id, version, position}].
CREATE FUNCTION knowledge_read(base text, keys jsonb)
RETURNS TABLE (document_id text, version int, "position" int, heading text, page int, start_character int,
    end_character int, content text, document_name text) LANGUAGE plpgsql STABLE AS $$
DECLARE
    place text := knowledge_table(base);
BEGIN
    IF place IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT c.document_id, c.version, c.position, c.heading, c.page, c.start_character, c.end_character, '
        'c.content, d.name FROM jsonb_to_recordset($1) AS k(document_id text, version int, position int) '
        'JOIN %s c USING (document_id, version, position) JOIN document d ON d.id = c.document_id', place) USING keys;
END
$$;

-- They act as the owner, with a search path that nobody can bend, and only the application may call them.
DO $$
DECLARE
    called regprocedure;
BEGIN
    FOR called IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'knowledge\_%'
    LOOP
        EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = %I, public, pg_temp', called, current_schema());
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', called);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO penstock_app', called);
    END LOOP;
END
$$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'knowledge_base', 'document', 'document_version', 'deletion_proof', 'knowledge_usage'
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

-- A proof stands for ever.
REVOKE DELETE ON deletion_proof FROM penstock_app;
