"""The configuration as text; that the server takes it is tested with the server."""

from pathlib import Path

import pytest

from penstock.drivers.embedded_postgres import settings


def value(text: str, name: str) -> str:
    found = [line.partition(" = ")[2] for line in text.splitlines() if line.startswith(f"{name} = ")]
    assert len(found) == 1
    return found[0]


def test_commits_are_durable_and_nothing_listens() -> None:
    text = settings.configuration(Path("/srv/run"))
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        assert value(text, name) == "on"
    assert value(text, "listen_addresses") == "''"
    assert value(text, "unix_socket_permissions") == "0700"


def test_the_operators_file_is_read_last() -> None:
    lines = settings.configuration(Path("/srv/run")).strip().splitlines()
    assert lines[-1] == "include_if_exists = 'override.conf'"


@pytest.mark.parametrize(
    ("folder", "written"),
    [
        ("/srv/run", """'"/srv/run"'"""),
        ("/it's", """'"/it''s"'"""),
        ('/a"b', """'"/a""b"'"""),
        ("/a\\b", """'"/a\\\\b"'"""),
    ],
)
def test_a_folder_is_quoted_twice(folder: str, written: str) -> None:
    assert value(settings.configuration(Path(folder)), "unix_socket_directories") == written


def test_only_who_runs_penstock_is_let_in() -> None:
    rules = [line for line in settings.access_rules().splitlines() if not line.startswith("#")]
    assert rules == ["local all all peer map=penstock"]
    users = [line for line in settings.user_map("some body").splitlines() if not line.startswith("#")]
    assert users == ['penstock "some body" all']
