"""The machine's own PostgreSQL serves the tests and goes away again."""

from pathlib import Path

import psycopg
import pytest

from tests.support import external_postgres as subject


def test_it_serves_an_ordinary_owner_and_leaves_nothing() -> None:
    if subject.find_binaries() is None:
        pytest.skip("no PostgreSQL is installed on this machine (Debian: apt-get install postgresql)")
    with subject.external_postgres() as server:
        assert server is not None
        with psycopg.connect(server.owner_url) as connection:
            row = connection.execute(
                "SELECT current_user, rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
            assert row == (subject.OWNER, False, False, True)
            connection.execute("CREATE TABLE owned (n int)")
        with psycopg.connect(server.new_database("second")) as connection:
            assert connection.execute("SELECT current_database()").fetchone() == ("second",)
            assert connection.execute("SELECT to_regclass('owned')").fetchone() == (None,)
        with psycopg.connect(server.superuser_url) as connection:
            assert connection.execute("SHOW is_superuser").fetchone() == ("on",)
            (folder,) = connection.execute("SHOW data_directory").fetchone() or ("",)
        assert Path(folder).is_dir()
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(server.owner_url.replace(f"{subject.OWNER}:", f"{subject.OWNER}:x"))
        url = server.owner_url
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    assert not Path(folder).parent.exists()


def test_it_yields_none_where_no_postgresql_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "find_binaries", lambda: None)
    with subject.external_postgres() as server:
        assert server is None
