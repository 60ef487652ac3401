"""Arguments and what can be refused before anything is served; running processes are in tests/flows."""

from pathlib import Path

import pytest

from penstock.base.errors import StartupError
from penstock.gateway.main import lock_folder, run


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "or --config"),
        (["--control-plane", "http://127.0.0.1:1"], "or --config"),
        (["--config", "x", "--data", "y"], "--config serves alone"),
        (["--nonsense"], "unrecognized"),
        (["--config", "/nonexistent/x.toml"], "check --config"),
    ],
)
def test_wrong_arguments_end_with_2(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argv) == 2
    assert said in capsys.readouterr().err


def test_help_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    assert "--control-plane" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("no_such = 1", "settings.no_such is unknown"),
        ('drain_seconds = "x"', "must be a number"),
        ("stall_seconds = -1", "must be a number"),
    ],
)
def test_wrong_settings_are_named(
    tmp_path: Path, settings: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "g.toml"
    path.write_text(
        f'listen = "127.0.0.1:0"\n[settings]\n{settings}\n[[keys]]\nkey = "k"\n[[models]]\nname = "m"\nupstreams = ["http://h"]\n'
    )
    pid = tmp_path / "pid"
    assert run(["--config", str(path), "--pid-file", str(pid)]) == 2
    assert said in capsys.readouterr().err
    assert not pid.exists()


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    handle = lock_folder(tmp_path / "data")
    assert handle >= 0
    with pytest.raises(StartupError, match="Another gateway"):
        lock_folder(tmp_path / "data")
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="cannot be used"):
        lock_folder(tmp_path / "file" / "data")
