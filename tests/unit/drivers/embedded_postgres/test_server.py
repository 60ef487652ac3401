"""The embedded PostgreSQL against the real programs: starts, crashes, refusals, and who may connect."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy.engine import make_url

from penstock.base.clock import SystemClock
from penstock.base.errors import StartupError
from penstock.drivers.embedded_postgres import EmbeddedPostgres
from penstock.drivers.embedded_postgres.folder import server_account
from penstock.drivers.embedded_postgres.programs import program_folder
from tests.support.waiting import until

AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="switching users needs root")

HOLDER = """
    import sys, time
    from pathlib import Path
    from penstock.base.clock import SystemClock
    from penstock.drivers.embedded_postgres import EmbeddedPostgres
    server = EmbeddedPostgres(Path(sys.argv[1]), SystemClock())
    print(server.start(), flush=True)
    if sys.argv[2] == "stop":
        server.stop()
    else:
        time.sleep(120)
"""


def connect(url: str) -> psycopg.Connection:
    parts = make_url(url)
    assert parts.drivername == "postgresql+psycopg"
    return psycopg.connect(
        host=str(parts.query["host"]), user=parts.username, dbname=parts.database, autocommit=True
    )


@contextlib.contextmanager
def holder(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(HOLDER), str(folder), "wait"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    made = EmbeddedPostgres(tmp_path / "db", SystemClock())
    yield made
    made.stop()
    assert not made.is_running()


def test_it_starts_keeps_data_and_can_be_told_twice(server: EmbeddedPostgres) -> None:
    assert not server.is_running()
    assert server.pid is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        url = server.start()
    assert server.is_running()
    assert server.start() == url
    with connect(url) as db:
        db.execute("create table kept (a int)")
        db.execute("insert into kept values (42)")
    first = server.pid
    server.stop()
    server.stop()
    assert not server.is_running()
    assert server.start() == url
    assert server.pid != first
    assert "create" not in EmbeddedPostgres(server.data_dir, SystemClock()).phases_seconds
    with connect(url) as db:
        assert db.execute("select a from kept").fetchall() == [(42,)]


def test_commits_are_durable_and_no_port_is_open(server: EmbeddedPostgres) -> None:
    with connect(server.start()) as db:

        def setting(name: str) -> str:
            row = db.execute("select current_setting(%s)", [name]).fetchone()
            assert row is not None
            return str(row[0])

        assert setting("fsync") == "on"
        assert setting("synchronous_commit") == "on"
        assert setting("listen_addresses") == ""
        assert setting("shared_buffers") == "256MB"
        assert setting("max_connections") == "60"
        assert setting("jit") == "off"
        assert setting("TimeZone") == "UTC"
        assert setting("server_encoding") == "UTF8"
        wrong = db.execute(
            "select name, error from pg_file_settings where error is not null or not applied"
        ).fetchall()
        assert [row for row in wrong if row[1]] == []
        assert db.execute("create extension vector") is not None
    assert server.pid is not None
    assert psutil.Process(server.pid).net_connections("inet") == []


def test_an_operators_override_wins(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    (server.data_dir / "data" / "override.conf").write_text("work_mem = '3MB'\n")
    (server.data_dir / "data" / "override.conf").chmod(0o644)
    with connect(server.start()) as db:
        assert db.execute("show work_mem").fetchone() == ("3MB",)


def test_after_kill_nine_of_the_process_its_server_is_adopted(server: EmbeddedPostgres) -> None:
    with holder(server.data_dir) as (process, url):
        pid = server.pid
        assert pid is not None
        with connect(url) as db:
            db.execute("create table kept (a int)")
        process.kill()
        process.wait()
        assert server.is_running()
        assert server.start() == url
        assert server.adopted
        assert server.pid == pid
        with connect(url) as db:
            assert db.execute("select count(*) from kept").fetchone() == (0,)


def test_after_kill_nine_of_the_postmaster_it_recovers_what_was_committed(server: EmbeddedPostgres) -> None:
    url = server.start()
    with connect(url) as db:
        db.execute("create table kept (a int)")
        for number in range(20):
            db.execute("insert into kept values (%s)", [number])
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
    until(lambda: not server.is_running(), "it is gone")
    assert (server.data_dir / "data" / "postmaster.pid").exists()
    assert server.start() == url
    assert not server.adopted
    with connect(url) as db:
        assert db.execute("select count(*) from kept").fetchone() == (20,)


def test_a_pid_file_whose_number_now_belongs_to_somebody_else_does_not_stop_a_start(
    server: EmbeddedPostgres,
) -> None:
    server.start()
    pid_file = server.data_dir / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    server.stop()
    lines[0] = str(os.getpid())  # a live process, and not a server
    pid_file.write_text("\n".join(lines) + "\n")
    assert not server.is_running()
    server.start()
    assert not server.adopted
    assert server.pid != os.getpid()


def test_a_second_process_is_refused_with_one_sentence(server: EmbeddedPostgres) -> None:
    with holder(server.data_dir) as (process, _url):
        with pytest.raises(StartupError) as caught:
            server.start()
        assert str(server.data_dir) in caught.value.sentence
        assert str(process.pid) in caught.value.sentence
        assert caught.value.sentence.count(".") == 1 + str(server.data_dir).count(".")
        pid = server.pid
        assert pid is not None
    server.start()
    assert server.pid == pid


def test_a_second_object_in_the_same_process_is_refused_too(server: EmbeddedPostgres) -> None:
    server.start()
    with pytest.raises(StartupError, match="in use by another Penstock"):
        EmbeddedPostgres(server.data_dir, SystemClock()).start()
    assert server.is_running()


def test_stop_in_the_middle_of_work_ends_all_its_processes(server: EmbeddedPostgres) -> None:
    with connect(server.start()) as db:
        assert server.pid is not None
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        assert len(family) > 3
        server.stop()
        _gone, alive = psutil.wait_procs(family, timeout=5)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
        with pytest.raises(psycopg.OperationalError):
            db.execute("select 1")


def test_leaving_the_interpreter_does_not_stop_it(server: EmbeddedPostgres) -> None:
    script = textwrap.dedent(HOLDER).replace("time.sleep(120)", "pass")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(server.data_dir), "wait"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert server.is_running()


def test_a_long_path_gets_a_short_private_socket_folder(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / ("x" * 60) / ("y" * 60) / "db", SystemClock())
    url = server.start()
    try:
        with connect(url) as db:
            assert db.execute("select 1").fetchone() == (1,)
        folder = Path(str(make_url(url).query["host"]))
        assert len(str(folder)) < 90
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        server.stop()
    assert not folder.exists(), "each data folder that ever was would leave one behind"


@pytest.mark.parametrize("name", ["it's a \"$(false)` \\ a", "com,ma", "käse%41?c&d#e"])
def test_odd_characters_in_the_path(tmp_path: Path, name: str) -> None:
    server = EmbeddedPostgres(tmp_path / name, SystemClock())
    try:
        with connect(server.start()) as db:
            assert db.execute("select 1").fetchone() == (1,)
    finally:
        server.stop()


def test_a_start_that_was_killed_while_creating_begins_anew(server: EmbeddedPostgres) -> None:
    server.data_dir.mkdir(mode=0o700)
    (server.data_dir / "data.new").mkdir()
    (server.data_dir / "data.new" / "PG_VERSION").write_text("18\n")
    server.start()
    assert not (server.data_dir / "data.new").exists()


def test_a_folder_open_to_others_is_refused(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    server.data_dir.chmod(0o755)
    with pytest.raises(StartupError, match="chmod 700"):
        server.start()
    server.data_dir.chmod(0o700)


def test_an_empty_folder_is_made_private(server: EmbeddedPostgres) -> None:
    server.data_dir.mkdir(mode=0o755)
    server.start()
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700


def test_a_folder_with_other_files_is_refused_and_left_alone(server: EmbeddedPostgres) -> None:
    server.data_dir.mkdir(mode=0o755)
    (server.data_dir / "thesis.txt").write_text("mine")
    with pytest.raises(StartupError, match=r"thesis\.txt"):
        server.start()
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o755
    assert sorted(path.name for path in server.data_dir.iterdir()) == ["thesis.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("")
    with pytest.raises(StartupError, match="cannot be used"):
        EmbeddedPostgres(tmp_path / "db", SystemClock()).start()


def test_a_place_that_cannot_be_written_is_refused() -> None:
    folder = Path("/proc/penstock-db")
    with pytest.raises(StartupError, match=str(folder)):
        EmbeddedPostgres(folder, SystemClock()).start()


def test_data_of_another_version_is_refused(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    (server.data_dir / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(StartupError, match="PostgreSQL 17"):
        server.start()
    (server.data_dir / "data" / "PG_VERSION").write_text("18\n")


def test_a_setting_that_is_wrong_is_named(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    override = server.data_dir / "data" / "override.conf"
    override.write_text("shared_buffers = 'lots'\n")
    override.chmod(0o644)
    with pytest.raises(StartupError, match="could not start"):
        server.start()
    assert not server.is_running()
    override.unlink()
    server.start()


@needs_root
def test_another_local_user_cannot_reach_the_socket_nor_be_let_in(server: EmbeddedPostgres) -> None:
    host = str(make_url(server.start()).query["host"])
    psql = program_folder(server_account()) / "psql"

    def stranger() -> str:
        command = [str(psql), "-h", host, "-U", "postgres", "-c", "select 'IN'"]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, user="nobody", group="nogroup", cwd="/"
        ).stderr

    assert "Permission denied" in stranger()
    # Even if somebody opens the folders, the server asks the kernel who is there.
    opened = [parent for parent in Path(host, "x").parents if not parent.stat().st_mode & stat.S_IXOTH]
    modes = [(parent, stat.S_IMODE(parent.stat().st_mode)) for parent in opened]
    try:
        for parent, mode in modes:
            parent.chmod(mode | 0o011)
        Path(host, ".s.PGSQL.5432").chmod(0o777)
        assert "Peer authentication failed" in stranger()
    finally:
        for parent, mode in modes:
            parent.chmod(mode)


@needs_root
def test_walking_through_a_closed_parent_is_allowed_to_the_server_alone(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedPostgres(closed / "db", SystemClock())
    try:
        server.start()
        facts = closed.stat()
        assert facts.st_uid == 0
        assert facts.st_mode & 0o007 == 0
        acl = subprocess.run(
            ["ls", str(closed)], capture_output=True, text=True, check=False, user="pgserver", cwd="/"
        )
        assert acl.returncode != 0  # it may walk through, it may not look
    finally:
        server.stop()


@needs_root
def test_it_runs_as_an_ordinary_user() -> None:
    """The interpreter may lie where that user cannot go, so it is loaded first and changes its user then."""
    drop = "import os, pwd, psutil\nos.setgroups([])\nos.setgid(65534)\nos.setuid(65534)\nserver ="
    script = textwrap.dedent(HOLDER).replace("server =", drop)
    with tempfile.TemporaryDirectory(prefix="penstock-test-") as place:
        folder = Path(place, "db")
        os.chown(place, 65534, 65534)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script, str(folder), "stop"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.stdout.startswith("postgresql+psycopg://"), done.stderr
        assert done.returncode == 0, done.stderr
        assert (folder / "data" / "PG_VERSION").stat().st_uid == 65534
        with pytest.raises(StartupError, match="belongs to user"):
            EmbeddedPostgres(folder, SystemClock()).start()


@needs_root
def test_a_full_disk_is_named_as_such(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from penstock.base.clock import SystemClock\n"
        "from penstock.base.errors import StartupError\n"
        "from penstock.drivers.embedded_postgres import EmbeddedPostgres\n"
        f"server = EmbeddedPostgres(Path({str(tmp_path / 'small')!r}) / 'db', SystemClock())\n"
        "try: server.start()\n"
        "except StartupError as error: print(error.sentence)\n"
    )
    (tmp_path / "small").mkdir()
    mount = f'mount -t tmpfs -o size=12m none "{tmp_path}/small" || exit 77; exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, sys.executable, script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("mounting a small file system is not allowed here")
    assert "is full" in done.stdout, done.stderr
    assert str(tmp_path / "small" / "db") in done.stdout
