"""Which part of the product a command line runs: a part of the factory, or a client command."""

import sys

import pytest

from penstock.__main__ import _part, main


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("", None),
        ("up", "penstock.up.command"),
        ("up --data x", "penstock.up.command"),
        ("agent join", "penstock.agent.main"),
        ("agent run", "penstock.agent.main"),
        ("agent clear-host --owner agt_1", "penstock.agent.main"),
        ("agent", None),
        ("agent list", None),
        ("agent --help", None),
        ("gateway --listen 127.0.0.1:1", "penstock.gateway.main"),
        ("twin place --json", "penstock.twin.command"),
        ("gateway", None),
        ("gateway list", None),
        ("serve engine", "penstock.up.serve"),
        ("service list", None),
        ("--help", None),
        ("agent list run", None),
    ],
)
def test_nouns_of_the_client_are_told_from_parts_of_the_factory(line: str, part: str | None) -> None:
    assert _part(line.split()) == part


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("up --help", "--data"),
        ("agent join --help", "--state-dir"),
        ("gateway --help", "--control-plane"),
        ("twin --help", "place"),
    ],
)
def test_a_part_gets_what_follows_its_name(
    line: str, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["penstock", *line.split()])
    try:
        code = main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    assert code == 0
    assert option in capsys.readouterr().out


def test_an_unknown_command_is_the_clients_to_refuse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["penstock", "nonsense"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "nonsense" in capsys.readouterr().err
