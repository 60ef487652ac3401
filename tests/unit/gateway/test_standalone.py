"""The configuration file: what is right becomes a snapshot, what is wrong is said in one sentence."""

import hashlib
from pathlib import Path

import pytest

from penstock.base.errors import StartupError
from penstock.gateway.limits import Limits, Price
from penstock.gateway.objective import Objective
from penstock.gateway.standalone import read_config

GOOD = """
listen = "127.0.0.1:8080"
ledger = "usage"
ledger_bytes_max = 1000
[settings]
drain_seconds = 1.5
[[keys]]
key = "sk-a"
requests_per_minute = 5
expires_at = 2030-01-01T00:00:00Z
[[keys]]
hash = "00000000000000000000000000000000000000000000000000000000000000ff"
project = "other"
[[models]]
name = "m"
upstreams = ["http://127.0.0.1:1", { url = "http://127.0.0.1:2", cancel = true, id = "two" }]
microeur_per_month = 40
slo_ttft_ms = 500
slo_percent = 99.5
prompt_microeur_per_million = 100
[[tenants]]
id = "default"
tokens_left = 7
[[projects]]
id = "other"
tokens_per_day = 9
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(text)
    return path


def test_a_whole_configuration(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, GOOD))
    assert (config.listen, config.ledger) == ("127.0.0.1:8080", tmp_path / "usage")
    assert config.settings == {"drain_seconds": 1.5, "journal_bytes_max": 1000}
    first, second = config.snapshot.keys
    assert first.digest == hashlib.sha256(b"sk-a").digest()
    assert (first.limits.requests_per_minute, first.expires_at_us) == (5, 1_893_456_000_000_000)
    assert (second.digest[-1], second.project) == (255, "other")
    (model,) = config.snapshot.models
    assert (model.name, model.model, model.project) == ("m", "m", "default")
    assert [(up.id, up.cancel) for up in model.upstreams] == [("m-0", False), ("two", True)]
    assert (model.limits.microeur_per_month, model.price) == (40, Price(100, 0))
    assert model.objective == Objective(500_000, 995_000)
    assert config.snapshot.limits == {
        ("tenant", "default"): Limits(tokens_left=7),
        ("project", "default/other"): Limits(tokens_per_day=9),
    }


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("[[keys]]", "[[keys", "not TOML"),
        ('key = "sk-a"', "", "either 'sha256'"),
        ('key = "sk-a"', 'key = "sk-a"\nsha256 = "00"', "either 'sha256'"),
        ("2030-01-01T00:00:00Z", "2030-01-01T00:00:00", "with a zone"),
        ("requests_per_minute = 5", "request_per_minute = 5", "unknown field 'request_per_minute'"),
        ("00ff", "zzzz", "hexadecimal"),
        ('name = "m"', "", "name must be"),
        ('upstreams = ["http', 'upstreams = ["gopher', "url must be"),
        ("cancel = true", "cancels = true", "unknown field 'cancels'"),
        ("[settings]\ndrain_seconds = 1.5", "settings = 1", "must be a table"),
        ('ledger = "usage"', "ledger = 7", "must be texts"),
        ("[[tenants]]", "[tenants]", r"\[\[tenants\]\]"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in GOOD
    with pytest.raises(StartupError, match=sentence):
        read_config(write(tmp_path, GOOD.replace(old, new)))


def test_relays_of_engines_are_known_by_a_certificate_and_an_authority(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, GOOD)).engine_tls is None
    files = '\n[engine_tls]\ncertificate = "c.pem"\nauthority = "ca.pem"\n'
    config = read_config(write(tmp_path, GOOD + files))
    assert config.engine_tls == (tmp_path / "c.pem", tmp_path / "ca.pem")
    with pytest.raises(StartupError, match="'engine_tls' needs 'certificate' and 'authority'"):
        read_config(write(tmp_path, GOOD + '\n[engine_tls]\ncertificate = "c.pem"\n'))


@pytest.mark.parametrize("text", ["", '[[keys]]\nkey = "a"\n', "\xff"])
def test_an_empty_one_serves_nobody(tmp_path: Path, text: str) -> None:
    with pytest.raises(StartupError):
        read_config(write(tmp_path, text))


def test_a_missing_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="check --config"):
        read_config(tmp_path / "none.toml")
