"""Where an agent answers: what may be said, and that it is remembered."""

from pathlib import Path

import pytest

from penstock.agent import serve_at
from penstock.agent.serve_at import ServeAt
from penstock.base.errors import InvalidInputError, StartupError


@pytest.mark.parametrize(
    ("text", "found", "url"),
    [
        ("10.0.0.17", ServeAt("10.0.0.17"), "https://10.0.0.17:9"),
        ("10.0.0.17:7073", ServeAt("10.0.0.17", 7073, fixed=True), "https://10.0.0.17:9"),
        (" gpu-17.example ", ServeAt("gpu-17.example"), "https://gpu-17.example:9"),
        ("fd00::17", ServeAt("fd00::17"), "https://[fd00::17]:9"),
        ("[fd00::17]:7073", ServeAt("fd00::17", 7073, fixed=True), "https://[fd00::17]:9"),
        ("gpu-17:0", ServeAt("gpu-17"), "https://gpu-17:9"),
    ],
)
def test_hosts_with_and_without_ports(text: str, found: ServeAt, url: str) -> None:
    assert serve_at.parse(text) == found
    assert found.url(9) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":7073",
        "http://x",
        "x/",
        "x?y",
        "a b",
        "x:99999",
        "x:y",
        "0.0.0.0",  # noqa: S104 - refused, not listened on
        "::",
        "u@x",
        "k\u00e4se",
        "[::1",
        "x" * 64,
    ],
)
def test_anything_else_is_refused_with_what_to_give(text: str) -> None:
    with pytest.raises(InvalidInputError, match="--serve-at HOST") as caught:
        serve_at.parse(text)
    assert caught.value.field == "serve_at"


def test_it_is_remembered(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    assert serve_at.recall(folder) == ServeAt("127.0.0.1", 0)
    serve_at.remember(folder, ServeAt("10.0.0.17", 4711))
    assert serve_at.recall(folder) == ServeAt("10.0.0.17", 4711)
    for spoilt in ("[]", "{", '{"hose": 1}'):
        (folder / "serve-at.json").write_text(spoilt)
        with pytest.raises(StartupError, match=r"serve-at\.json"):
            serve_at.recall(folder)
    with pytest.raises(StartupError, match="cannot be written"):
        serve_at.remember(Path("/proc/penstock"), ServeAt())
