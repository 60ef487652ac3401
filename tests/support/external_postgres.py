"""A PostgreSQL of the machine (not the embedded one), in a cluster of its own, for tests of PENSTOCK_DATABASE_URL.

It is found, never installed: /usr/lib/postgresql/*/bin as Debian lays it out, else whatever is on the path.
PostgreSQL refuses to run as root; root starts it as the user ``postgres``, which Debian's package makes.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

OWNER = "penstock"
_LOOPBACK = "127.0.0.1"
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class ExternalPostgres:
    """A running cluster. Both URLs name the same database, which ``OWNER`` owns.

    ``OWNER`` is no superuser and may make roles: migrations make the role that row-level security binds.
    """

    superuser_url: str
    owner_url: str
    version: int

    def new_database(self, name: str) -> str:
        """Make an empty database that belongs to ``OWNER`` and return its URL for that user."""
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(OWNER))
            )
        return f"{self.owner_url.rpartition('/')[0]}/{name}"


def find_binaries() -> Path | None:
    """Return the folder with ``initdb`` and ``pg_ctl`` of the newest PostgreSQL installed here, or None."""
    folders = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    if folders:
        return max(folders, key=lambda path: int(path.parent.name.partition(".")[0]))
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found and shutil.which("pg_ctl") else None


def _server_user() -> str | None:
    """Return the user to run the server as, None for this one; raises KeyError if root lacks that user."""
    return pwd.getpwnam("postgres").pw_name if os.geteuid() == 0 else None


def _run(user: str | None, *command: str) -> None:
    """Run one of PostgreSQL's tools to its end; RuntimeError with its last words if it fails."""
    group = user and pwd.getpwnam(user).pw_gid
    done = subprocess.run(
        command,
        user=user,
        group=group,
        extra_groups=[] if user else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        cwd="/",
        check=False,
    )  # fmt: skip - one line a group of arguments
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stdout.strip()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _start(binaries: Path, user: str | None, folder: Path) -> int:
    """Start the server on a free loopback port and return the port; another process may snatch one, hence the loop."""
    for attempt in range(_ATTEMPTS):
        port = _free_port()
        options = (
            f"-p {port} -k {folder} -c listen_addresses={_LOOPBACK} -c fsync=off -c full_page_writes=off"
            " -c shared_buffers=64MB -c max_connections=200"
        )
        try:
            log = str(folder / "log")
            _run(
                user,
                str(binaries / "pg_ctl"),
                "-D",
                str(folder / "data"),
                "-w",
                "-l",
                log,
                "-o",
                options,
                "start",
            )
        except RuntimeError:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return port
    raise AssertionError("unreachable: the last attempt returns or raises")


@contextlib.contextmanager
def external_postgres() -> Iterator[ExternalPostgres | None]:
    """Run a fresh cluster for the length of the block; yields None where no PostgreSQL is installed.

    Passwords travel by SCRAM over TCP, as in production; data is not flushed to disk, it is thrown away.
    """
    binaries = find_binaries()
    if binaries is None:
        yield None
        return
    user = _server_user()
    # Not below pytest's temporary folder: that one is closed to other users, and too deep for a unix socket.
    folder = Path(tempfile.mkdtemp(prefix="penstock-pg-"))
    try:
        if user:
            os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        password = secrets.token_hex(16)
        secret = folder / "password"
        secret.write_text(password)
        secret.chmod(0o644)  # initdb reads it as the server's user; the folder is closed to everybody else
        _run(
            user,
            str(binaries / "initdb"),
            "-D",
            str(folder / "data"),
            "-U",
            "postgres",
            "-A",
            "scram-sha-256",
            f"--pwfile={secret}",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        )  # fmt: skip - one line a group of arguments
        port = _start(binaries, user, folder)
        try:
            yield _set_up(port, password)
        finally:
            _run(user, str(binaries / "pg_ctl"), "-D", str(folder / "data"), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


def _set_up(port: int, password: str) -> ExternalPostgres:
    """Make the ordinary user and its database; both users share the password, it is a throw-away one."""
    place = f"{_LOOPBACK}:{port}/{OWNER}"
    with psycopg.connect(
        f"postgresql://postgres:{password}@{_LOOPBACK}:{port}/postgres", autocommit=True
    ) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER CREATEROLE PASSWORD {}").format(
                sql.Identifier(OWNER), password
            )
        )
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(OWNER), sql.Identifier(OWNER))
        )
        version = connection.info.server_version // 10_000
    return ExternalPostgres(
        superuser_url=f"postgresql://postgres:{password}@{place}",
        owner_url=f"postgresql://{OWNER}:{password}@{place}",
        version=version,
    )
