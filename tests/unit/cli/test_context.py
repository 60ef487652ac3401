"""Contexts: kept safely, resolved in a fixed order, refused clearly."""

import stat
from pathlib import Path

import pytest

from penstock.cli import context as contexts
from penstock.cli.context import Contexts, Target
from penstock.cli.errors import CliError


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("URL", "API_KEY", "GATEWAY_URL", "CONTEXT"):
        monkeypatch.delenv(f"PENSTOCK_{name}", raising=False)
    return tmp_path / "penstock" / "config.toml"


def test_without_a_file_the_local_factory_is_used(path: Path) -> None:
    assert contexts.config_path() == path
    assert contexts.resolve() == Target("local", contexts.DEFAULT_URL, None, contexts.DEFAULT_GATEWAY_URL)


@pytest.mark.usefixtures("path")
def test_what_is_saved_is_loaded_again_whatever_the_characters() -> None:
    odd = Target("a.b-c_1", 'http://x/"\\\x7f\té', "psk_ünï", "http://g")
    stored = Contexts("a.b-c_1", {"a.b-c_1": odd, "lab": Target("lab", "http://lab")})
    contexts.save(stored)
    assert contexts.load() == stored


def test_the_file_is_for_its_owner_alone_and_replaced_whole(path: Path) -> None:
    contexts.remember(Target("lab", "http://lab", "psk_secret"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    contexts.remember(Target("lab2", "http://lab2"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["config.toml"]
    assert "psk_secret" not in repr(contexts.load())


@pytest.mark.usefixtures("path")
def test_option_beats_environment_beats_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two", "three"):
        contexts.remember(Target(name, f"http://{name}", f"psk_{name}"))
    assert contexts.resolve().name == "three"
    monkeypatch.setenv("PENSTOCK_CONTEXT", "two")
    assert contexts.resolve().url == "http://two"
    assert contexts.resolve("one").url == "http://one"
    monkeypatch.setenv("PENSTOCK_URL", "http://elsewhere")
    monkeypatch.setenv("PENSTOCK_API_KEY", "psk_other")
    assert contexts.resolve("one") == Target("one", "http://elsewhere", "psk_other")


@pytest.mark.usefixtures("path")
def test_an_unknown_context_names_the_known_ones() -> None:
    contexts.remember(Target("lab", "http://lab"))
    with pytest.raises(CliError, match=r"no context 'x' \(known: lab\); add it with") as caught:
        contexts.resolve("x")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["current = ", "contexts = 3", "\xff"])
def test_a_broken_file_is_named(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CliError, match=r"config\.toml"):
        contexts.load()


@pytest.mark.usefixtures("path")
def test_a_new_context_does_not_take_over_unless_asked() -> None:
    contexts.remember(Target("one", "http://one"))
    contexts.remember(Target("two", "http://two"), make_current=False)
    assert contexts.load().current == "one"
    with pytest.raises(CliError, match="cannot name a context"):
        contexts.remember(Target("no spaces", "http://x"))
