"""How commands are made, find things by name, ask before they destroy, and end."""

import json
import os
import subprocess
import sys
from typing import Annotated, Any

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from penstock.cli.client import Client
from penstock.cli.context import Target
from penstock.cli.errors import CliError
from penstock.cli.output import Column
from penstock.cli.session import Session, Yes, command


def session_with(items: dict[str, list[dict[str, Any]]]) -> Session:
    """Return a session whose factory lists ``items`` by path, filtered by ``name``."""

    def answer(request: httpx.Request) -> httpx.Response:
        name = request.url.params.get("name")
        found = [i for i in items[request.url.path] if name in (None, i["name"])]
        return httpx.Response(200, json={"items": found[: int(request.url.params["limit"])], "next": None})

    session = Session()
    session.__dict__["client"] = Client(Target("t", "http://t.test"), transport=httpx.MockTransport(answer))
    return session


TWO = {
    "/v1/projects": [{"id": "prj_a", "name": "a"}, {"id": "prj_b", "name": "b"}],
    "/v1/users": [{"id": "usr_1", "name": "ada@x.test"}],
    "/v1/service-accounts": [{"id": "sva_1", "name": "ci"}],
}


def test_names_and_ids_are_found() -> None:
    session = session_with(TWO)
    assert session.find("projects", "b") == "prj_b"
    own_id = "prj_" + "0" * 26
    assert session.find("projects", own_id) == own_id, "an id is not looked up"
    assert session.find_principal("ada@x.test") == "usr_1"
    assert session.find_principal("ci") == "sva_1"
    with pytest.raises(
        CliError, match="no service account is called 'x'; see `penstock service-account list`"
    ):
        session.find_principal("x")


def test_the_project_is_chosen_only_where_there_is_a_choice() -> None:
    assert session_with({"/v1/projects": TWO["/v1/projects"][:1]}).project(None) == "prj_a"
    assert session_with(TWO).project("b") == "prj_b"
    with pytest.raises(CliError, match="more than one project"):
        session_with(TWO).project(None)
    with pytest.raises(CliError, match="penstock project create"):
        session_with({"/v1/projects": []}).project(None)


def test_two_of_one_name_need_the_id() -> None:
    with pytest.raises(CliError, match="more than one project is called 'a'; give the id"):
        session_with({"/v1/projects": [{"id": "1", "name": "a"}, {"id": "2", "name": "a"}]}).find(
            "projects", "a"
        )


def run(*arguments: str, given: str | None = None) -> Result:
    app = typer.Typer(rich_markup_mode=None)

    @command(app, "fail")
    def fail(session: Session, code: Annotated[int, typer.Option("--code")] = 3) -> None:
        """Fail."""
        del session
        raise CliError("it did not work; do this instead", code)

    @command(app, "destroy", examples=["penstock destroy --yes"])
    def destroy(session: Session, what: str, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
        """Destroy something."""
        session.confirm(f"Destroy {what}?", yes=yes)
        session.show({"what": what, "at": None}, (Column("WHAT", "what"), Column("AT", "at")))

    return CliRunner().invoke(app, list(arguments), input=given)


def test_an_error_is_one_line_on_stderr_and_an_exit_code() -> None:
    result = run("fail")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "error: it did not work; do this instead\n"
    assert run("fail", "--code", "4").exit_code == 4
    assert run("fail", "--nonsense").exit_code == 2


def test_without_a_terminal_destruction_needs_yes() -> None:
    result = run("destroy", "x")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert run("destroy", "x", "--yes").stdout == "What  x\nAt    -\n"
    assert json.loads(run("destroy", "x", "-y", "-o", "json").stdout) == {"what": "x", "at": None}


def test_help_shows_the_common_options_and_examples_as_written() -> None:
    text = run("destroy", "--help").stdout
    assert "--output" in text
    assert "--context" in text
    assert "  Examples:\n    penstock destroy --yes" in text


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = "from penstock.cli.main import app; app(['context', 'list', '-o', 'json'])"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )
    os.close(write)
    assert done.returncode == 0
    assert done.stderr == ""
