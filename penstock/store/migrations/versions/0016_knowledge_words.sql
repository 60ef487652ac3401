-- Full-text search that keeps its time and its quality as a knowledge base grows. The words of a question and pairs of
-- them are candidates to look for, the rarest first, until about `budget` chunks would be looked at: two frequent words
-- together are as good a sign as a rare one. What is found is scored as in Okapi BM25 (k1 = 1.2, b = 0.75): how
-- rare a word is, how often it stands there, and how long the chunk is. `ts_rank` of one word, without regard to
-- length, is 0.0608 (0.1 / (pi^2 / 6)) for one occurrence and grows to 1.645 times as much; its power of 1.5
-- follows BM25's count closely, and a word of the heading counts 2.8 times.

CREATE OR REPLACE FUNCTION knowledge_words(base text, language text, asked text, budget int, most int)
RETURNS TABLE (document_id text, version int, "position" int, score float8) LANGUAGE plpgsql STABLE AS $$
DECLARE
    place text := knowledge_table(base);
    total float8;  -- chunks
    width float8;  -- of the words of a chunk, bytes on average
    known text[];
    frequencies float4[];
    frequent float8;
    words text[];
    counts float8[];  -- of chunks that hold each word, estimated
    terms text;
BEGIN
    IF place IS NULL THEN
        RETURN;
    END IF;
    SELECT greatest(reltuples, 1) INTO total FROM pg_class WHERE oid = to_regclass(place);
    SELECT most_common_elems::text::text[], most_common_elem_freqs, avg_width INTO known, frequencies, width
        FROM pg_stats WHERE schemaname = 'penstock_knowledge' AND tablename = base AND attname = 'words';
    frequent := coalesce((SELECT min(f) FROM unnest(frequencies) f WHERE f > 0), 0.01);
    SELECT array_agg(w.lexeme ORDER BY w.expected, w.lexeme), array_agg(w.expected ORDER BY w.expected, w.lexeme)
        INTO words, counts FROM (
            SELECT lexeme, total * coalesce(frequencies[array_position(known, lexeme)], frequent / 2) AS expected
            FROM unnest(to_tsvector(language::regconfig, asked)) ORDER BY 2, 1 LIMIT 12
        ) w;
    IF words IS NULL THEN
        RETURN;
    END IF;
    SELECT string_agg(summed.term, ' | ') INTO terms FROM (
        SELECT one.term, sum(one.expected) OVER (ORDER BY one.expected, one.term) - one.expected AS before FROM (
            SELECT quote_literal(w) AS term, c AS expected FROM unnest(words, counts) AS a (w, c)
            UNION ALL
            SELECT format('(%s & %s)', quote_literal(a.w), quote_literal(b.w)), a.c * b.c / total
            FROM unnest(words, counts) WITH ORDINALITY AS a (w, c, n)
            JOIN unnest(words, counts) WITH ORDINALITY AS b (w, c, n) ON a.n < b.n AND a.c + b.c < 16 * budget
        ) one
    ) summed WHERE summed.before < budget;
    PERFORM set_config('enable_seqscan', 'off', true);  -- the index is smaller than what it saves, whatever the estimate
    RETURN QUERY EXECUTE format(
        'WITH word AS MATERIALIZED (SELECT quote_literal(w)::tsquery AS query, '
        'ln(1 + ($5 - least(c, $5) + 0.5::float8) / (c + 0.5::float8)) AS weight FROM unnest($1::text[], $2::float8[]) AS a (w, c)), '
        'found AS MATERIALIZED (SELECT c.document_id, c.version, c.position, c.words FROM %s c '
        'WHERE c.words @@ $6::tsquery LIMIT $4) '
        'SELECT f.document_id, f.version, f.position, scored.score FROM found f '
        'JOIN document d ON d.id = f.document_id AND d.indexed_version = f.version AND d.wanted = ''indexed'' '
        'CROSS JOIN LATERAL (SELECT sum(weight * least(power(ts_rank(f.words, query) / 0.0607927::float8, 1.5), 2.8)) '
        '* 2.2::float8 / (1.3::float8 + 0.9::float8 * pg_column_size(f.words) / $7) AS score '
        'FROM word WHERE f.words @@ query) AS scored ORDER BY 4 DESC, 1, 3 LIMIT $3', place)
        USING words, counts, most, 2 * budget, total, terms, coalesce(width, 500);
END
$$;

-- A replaced function forgets that it acts as its owner.
DO $$
BEGIN
    EXECUTE format(
        'ALTER FUNCTION knowledge_words(text, text, text, int, int) SECURITY DEFINER SET search_path = %I, public, pg_temp',
        current_schema());
END
$$;
