"""The same tests a second time on a PostgreSQL of the machine, as an ordinary owner over TCP with a password.

What differs from the embedded server: the login is no superuser, so row-level security and the role switch are
all that stands between tenants; and migrations run with an owner's rights only.
"""

import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from penstock.base.errors import StartupError
from penstock.control_plane import ControlPlane
from penstock.store.database import SYSTEM, Scope, tenant_scope
from penstock.store.migrate import migrate
from penstock.up.preflight import external_url
from tests.fixtures.factory import plain
from tests.flows import test_gpu_service
from tests.support.external_postgres import ExternalPostgres
from tests.support.factory_process import FactoryProcess, demo_project
from tests.support.ports import free_port
from tests.support.tenancy import Tenant
from tests.support.waiting import until
from tests.unit.store import test_quota

# The modules run here as they are; only where the database lives is another.
for _module in (test_gpu_service, test_quota):
    globals().update({name: value for name, value in vars(_module).items() if not name.startswith("__")})


@pytest.fixture
def database_url(external_database_url: str) -> str:
    """Take the place of the embedded server's database in every test of this module."""
    return external_database_url


def test_the_login_is_an_ordinary_owner(database_url: str) -> None:
    with psycopg.connect(plain(database_url)) as connection:
        row = connection.execute(
            "SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
    assert row == (False, False)


def test_rows_of_others_are_hidden_from_an_ordinary_owner_too(
    control_plane: ControlPlane, acme: Tenant, globex: Tenant, database_url: str
) -> None:
    every = sa.text("SELECT tenant_id FROM project")
    with control_plane.db.transaction(tenant_scope(acme.id)) as connection:
        assert set(connection.execute(every).scalars()) == {acme.id}
        assert connection.execute(sa.text("UPDATE project SET name = 'mine'")).rowcount == 1
    with control_plane.db.transaction(Scope("")) as connection:
        assert connection.execute(every).all() == []
    with control_plane.db.transaction(SYSTEM) as connection:
        assert {acme.id, globex.id} <= set(connection.execute(every).scalars())
    with psycopg.connect(plain(database_url)) as owner:  # not even who owns the tables, without a scope
        assert owner.execute("SELECT tenant_id FROM project").fetchall() == []


@pytest.fixture(params=["embedded", "external"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each of the two servers."""
    name = f"empty_{tmp_path.name.replace('-', '_')}"[:60].lower()
    if request.param == "external":
        server: ExternalPostgres = request.getfixturevalue("external")
        return external_url(server.new_database(name)) or ""
    url: str = request.getfixturevalue("postgres").template_url
    with psycopg.connect(plain(url).replace("template_penstock", "postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)


def test_migrations_from_empty_then_nothing_and_a_newer_version_is_refused(empty_url: str) -> None:
    said: list[str] = []
    migrate(empty_url, said.append)
    assert len(said) == 1
    assert "from empty" in said[0]
    migrate(empty_url, said.append)
    assert len(said) == 1
    with psycopg.connect(plain(empty_url), autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StartupError, match=r"written by a newer Penstock \(revision 9999\)"):
        migrate(empty_url, said.append)


def test_two_that_migrate_at_once_wait_for_each_other(empty_url: str) -> None:
    said: list[str] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            migrate(empty_url, said.append)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert len(said) == 1, "one of them migrates, the others find nothing to do"


@pytest.mark.timeout(240)
def test_penstock_up_keeps_its_state_there(external: ExternalPostgres, tmp_path: Path) -> None:
    environment = {"PENSTOCK_DATABASE_URL": external.new_database("up")}
    factory = FactoryProcess(
        tmp_path, simulated="2x1:H100", port=free_port(), gateway_port=free_port(), environment=environment
    )
    try:
        factory.start()
        with factory.client(factory.keys().demo) as client:
            body: dict[str, Any] = {"offer": "gpu", "project": demo_project(client), "spec": {"count": 1}}
            service = client.post("/v1/services", json=body).raise_for_status().json()
            path = f"/v1/services/{service['id']}"
            until(lambda: client.get(path).json()["state"] == "running", "it runs", 30)
        factory.stop()
        assert not (factory.data / "postgres").exists()
        factory.start()
        with factory.client(factory.keys().demo) as client:
            assert client.get(path).json()["state"] == "running"
    finally:
        factory.stop()
