"""The tree of commands: complete, documented, quick to load."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from penstock import __version__
from penstock.cli.main import GROUPS, app, whole_tree


def commands(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    children = getattr(node, "commands", None)
    if children is None:
        yield path, node
        return
    for name, child in children.items():
        yield from commands(child, (*path, name))


ALL = dict(commands(whole_tree()))


def test_the_nouns_are_there() -> None:
    for path in (("tenant", "create"), ("key", "revoke"), ("quota", "set"), ("event", "watch"), ("login",)):
        assert path in ALL


@pytest.mark.parametrize("path", sorted(ALL), ids=" ".join)
def test_every_command_has_help_examples_and_the_common_options(path: tuple[str, ...]) -> None:
    command = ALL[path]
    options = {name for parameter in command.params for name in parameter.opts}
    assert (command.help or "").strip(), "write a docstring"
    assert {"--output", "--utc", "--context"} <= options
    assert f"penstock {' '.join(path)}" in (command.epilog or ""), "give an example"
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"say what {parameter.name} is"
        assert not ({"--password", "--api-key", "--secret"} & set(parameter.opts)), "secrets are asked for"


def test_version_and_help_need_no_factory() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.stdout == f"penstock {__version__}\n"
    assert "login" in CliRunner().invoke(app, ["--help"]).stdout


@pytest.mark.parametrize("name", [name for name, _, _ in GROUPS])
def test_a_group_is_loaded_when_it_is_used(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    expected = {path[1] for path in ALL if path[0] == name}
    assert expected
    assert all(child in result.stdout for child in expected)


def test_a_group_answers_to_its_short_name_too() -> None:
    short, long = (CliRunner().invoke(app, [name, "--help"]).stdout for name in ("kb", "knowledge-base"))
    assert short == long


def test_completion_can_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    # The shell is named: who runs the tests may have none, and then there would be nothing to detect.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    result = CliRunner().invoke(app, ["--show-completion", "bash"], prog_name="penstock")
    assert "_PENSTOCK_COMPLETE" in result.stdout


def test_what_is_slow_is_loaded_at_first_use_only() -> None:
    code = (
        "import sys, penstock.cli.main\n"
        "slow = {'httpx', 'rich.console', 'yaml', 'sqlalchemy', 'fastapi', 'pydantic', 'numpy', 'asyncio'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_groups_are_not_loaded_to_list_them() -> None:
    code = (
        "import sys\nfrom penstock.cli.main import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('penstock.cli.tenant' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "False"
    assert "Tenants: who the factory serves." in done.stdout


def test_httpx_is_loaded_without_its_own_command_line() -> None:
    code = "import sys, penstock.cli.client as c\nprint('httpx._main' in sys.modules, 'click' in sys.modules, c.httpx.get)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("False False <function get")
