"""Which engine serves what lies in a folder, and what its checksums are."""

import hashlib
from pathlib import Path

import pytest

from penstock.actions.model_folder import digest_of, inspect_folder
from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.drivers.ctranslate2.checkpoint import demo_model_dir
from tests.support.simulated_vllm import make_checkpoint


def test_a_checkpoint_is_for_vllm_and_a_converted_model_for_the_embedded_engine(tmp_path: Path) -> None:
    facts = inspect_folder(str(make_checkpoint(tmp_path / "llama")))
    assert (facts["name"], facts["format"], facts["engines"]) == ("llama", "safetensors", ["vllm"])
    assert (facts["context_tokens"], facts["kind"], facts["demonstration"]) == (4_096, "generation", False)
    assert facts["files"]["model.safetensors"]["sha256"] == hashlib.sha256(b"simulated").hexdigest()
    assert facts["size_bytes"] == sum(file.stat().st_size for file in (tmp_path / "llama").iterdir())
    assert inspect_folder(str(demo_model_dir()))["engine"] == "ctranslate2"


@pytest.mark.parametrize(
    ("damage", "field"),
    [
        ("config.json", "model.bin"),
        ("tokenizer.json", "tokenizer.json"),
        ("model.safetensors", "model.safetensors"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, damage: str, field: str) -> None:
    folder = make_checkpoint(tmp_path / "m")
    (folder / damage).unlink()
    with pytest.raises(InvalidInputError) as caught:
        inspect_folder(str(folder))
    assert caught.value.field in (field, damage)


def test_a_huge_file_is_known_by_its_size_and_its_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MODEL_FILE_HASHED_BYTES_MAX", 1 << 20)
    file = tmp_path / "weights"
    file.write_bytes(b"a" * (3 << 20))
    first = digest_of(file)
    assert first.startswith("ends:")
    file.write_bytes(b"a" * (2 << 20) + b"b" * (1 << 20))
    assert digest_of(file) != first
    file.write_bytes(b"a" * (4 << 20))
    assert digest_of(file) != first
