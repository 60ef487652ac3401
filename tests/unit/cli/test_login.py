"""Logging in and out against a real API."""

from pathlib import Path

import pytest

from penstock.cli import context as contexts
from penstock.control_plane import ControlPlane
from tests.support.command_line import CommandLine
from tests.support.tenancy import Caller

EMAIL, PASSWORD = "ada@factory.test", "correct horse battery"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_log_in_keeps_a_key_that_works_until_log_out(
    served: str, operator: Caller, control_plane: ControlPlane
) -> None:
    del control_plane
    assert operator.post("/v1/users", email=EMAIL, password=PASSWORD).status_code == 201
    penstock = CommandLine(served)
    refused = penstock("login", EMAIL, "--password-stdin", given="wrong\n")
    assert refused.exit_code == 3
    assert "[unauthenticated]" in refused.stderr
    assert contexts.load().targets == {}

    done = penstock("login", EMAIL.upper(), "--password-stdin", given=PASSWORD + "\n")
    assert done.exit_code == 0, done.stderr
    assert PASSWORD not in done.output
    key = contexts.load().targets["local"].api_key
    assert key is not None
    assert key not in done.output
    assert contexts.load().targets["local"].url == served

    who = penstock.json("whoami")
    assert (who["principal"]["name"], who["key"]["session"]) == (EMAIL, True)
    assert penstock("logout").exit_code == 0
    assert contexts.load().targets["local"].api_key is None
    assert penstock("whoami").exit_code == 3
    stolen = CommandLine(served, key)
    assert "[unauthenticated]" in stolen("whoami").stderr


def test_a_new_context_is_made_by_logging_in_with_an_address(served: str, operator: Caller) -> None:
    operator.post("/v1/users", email=EMAIL, password=PASSWORD)
    nowhere = CommandLine("")
    arguments = ("login", EMAIL, "--password-stdin", "--context", "lab")
    assert nowhere(*arguments, given=PASSWORD).exit_code == 2
    assert nowhere(*arguments, "--url", served + "/", given=PASSWORD).exit_code == 0
    assert contexts.load().targets["lab"].url == served
    assert nowhere.json("whoami")["principal"]["name"] == EMAIL


def test_without_a_terminal_the_password_needs_stdin_and_log_out_a_session(served: str) -> None:
    penstock = CommandLine(served)
    assert "--password-stdin" in penstock("login", EMAIL).stderr
    assert penstock("login", "--password-stdin").exit_code == 2
    assert penstock("logout").exit_code == 2
