"""The processes that hear signals over a database."""

import psycopg

from tests.fixtures.factory import plain


def listening(url: str) -> tuple[int, ...]:
    """Return the backends that listen in the database at ``url``, by process id."""
    with psycopg.connect(plain(url)) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'penstock-listen' "
            "AND datname = current_database() AND query LIKE 'LISTEN%' AND state = 'idle'"
        )
        return tuple(row[0] for row in rows)
