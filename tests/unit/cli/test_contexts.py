"""`penstock context`: the commands over the file."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from penstock.cli import context as contexts
from penstock.cli.main import app


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def run(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, ["context", *arguments], input=given)


def test_add_use_list_show_remove() -> None:
    assert "no context yet" in run("list").stderr
    assert run("add", "lab", "--url", "http://lab/", "--ask-key", given="psk_secret\n").exit_code == 0
    assert run("add", "prod", "--url", "http://prod").exit_code == 0
    assert run("use", "prod").exit_code == 0
    listed = run("list", "--output", "json").stdout
    assert "psk_secret" not in listed
    assert [(i["name"], i["current"], i["has_key"]) for i in json.loads(listed)["items"]] == [
        ("lab", False, True),
        ("prod", True, False),
    ]
    assert json.loads(run("show", "-o", "json").stdout)["url"] == "http://prod"
    assert json.loads(run("show", "-o", "json", "--context", "lab").stdout)["url"] == "http://lab"
    assert run("remove", "prod", "--yes").exit_code == 0
    assert contexts.load().current is None


def test_changing_an_address_keeps_the_key() -> None:
    run("add", "lab", "--url", "http://lab", "--ask-key", given="psk_secret\n")
    run("add", "lab", "--url", "http://lab2")
    assert contexts.load().targets["lab"].api_key == "psk_secret"
    assert contexts.load().targets["lab"].url == "http://lab2"


@pytest.mark.parametrize("arguments", [("use", "x"), ("remove", "x", "--yes"), ("show", "--context", "x")])
def test_an_unknown_context_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "no context 'x'" in result.stderr
