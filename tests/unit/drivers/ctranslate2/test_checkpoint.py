"""What makes a folder a servable model, tried on damaged copies of the demonstration model."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.base.errors import InvalidInputError
from penstock.drivers.ctranslate2.checkpoint import (
    Checksums,
    demo_model_dir,
    inspect_model_folder,
    read_manifest,
    verify,
)


def refused(folder: Path) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        inspect_model_folder(folder)
    return caught.value


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_the_demonstration_model_is_whole_and_says_what_it_is() -> None:
    facts: Any = inspect_model_folder(demo_model_dir())
    assert (facts["name"], facts["format"], facts["engine"]) == (
        "penstock-demo-5m",
        "ctranslate2",
        "ctranslate2",
    )
    assert facts["demonstration"] is True
    assert facts["context_tokens"] == 1_024
    assert facts["parameters"] == 5_401_856
    assert facts["licence"] == "Apache-2.0"
    model = demo_model_dir() / "model.bin"
    expected = {"size_bytes": model.stat().st_size, "sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
    assert facts["files"]["model.bin"] == expected
    assert facts["size_bytes"] == sum(path.stat().st_size for path in demo_model_dir().iterdir())


def test_a_folder_without_a_manifest_is_served_with_defaults(model_copy: Path) -> None:
    (model_copy / "manifest.json").unlink()
    facts = inspect_model_folder(model_copy)
    assert (facts["name"], facts["licence"], facts["demonstration"]) == ("model", None, False)


@pytest.mark.parametrize("file", ["model.bin", "config.json", "tokenizer.json", "vocabulary.json"])
def test_a_missing_file_is_named(model_copy: Path, file: str) -> None:
    (model_copy / file).unlink()
    error = refused(model_copy)
    assert error.field == file
    assert file in error.sentence


@pytest.mark.parametrize("file", ["model.bin", "config.json", "tokenizer.json", "vocabulary.json"])
def test_one_changed_byte_is_found(model_copy: Path, file: str) -> None:
    content = bytearray((model_copy / file).read_bytes())
    content[len(content) // 2] ^= 1
    (model_copy / file).write_bytes(content)
    error = refused(model_copy)
    assert error.field == file
    assert "corrupt" in error.sentence


def test_without_checksums_broken_json_is_found(model_copy: Path) -> None:
    edit(model_copy, lambda manifest: manifest.pop("files"))
    (model_copy / "tokenizer.json").write_text("{")
    assert refused(model_copy).field == "tokenizer.json"


def test_a_tokenizer_that_cannot_be_streamed_is_refused_early(model_copy: Path) -> None:
    edit(model_copy, lambda manifest: manifest.pop("files"))
    document = json.loads((model_copy / "tokenizer.json").read_text())
    document["decoder"] = {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"}
    (model_copy / "tokenizer.json").write_text(json.dumps(document))
    assert refused(model_copy).field == "tokenizer.json"


def test_a_link_out_of_the_folder_is_refused(model_copy: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("{}")
    (model_copy / "extra.json").symlink_to(secret)
    assert refused(model_copy).field == "extra.json"


def test_a_link_inside_the_folder_is_fine(model_copy: Path) -> None:
    (model_copy / "model.bin").rename(model_copy / "weights.bin")
    (model_copy / "model.bin").symlink_to("weights.bin")
    assert inspect_model_folder(model_copy)["name"] == "penstock-demo-5m"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "gguf"),
        ("context_tokens", "many"),
        ("context_tokens", 3),
        ("demonstration", "yes"),
        ("stop_tokens", "x"),
        ("temperature", 9),
        ("files", []),
        ("files", {"../x": "0" * 64}),
        ("files", {"model.bin": "short"}),
    ],
)
def test_a_wrong_manifest_field_is_named(model_copy: Path, key: str, value: object) -> None:
    edit(model_copy, lambda manifest: manifest.update({key: value}))
    assert refused(model_copy).field == f"manifest.json.{key}"


def test_a_relative_path_and_no_folder_are_refused(tmp_path: Path) -> None:
    assert refused(Path("models")).field == "model_dir"
    assert refused(tmp_path / "nothing").field == "model_dir"


def test_a_checksum_is_computed_again_only_after_a_change(tmp_path: Path) -> None:
    file, checksums = tmp_path / "f", Checksums()
    file.write_bytes(b"one")
    first = checksums.of(file)
    assert first == hashlib.sha256(b"one").hexdigest()
    assert checksums.of(file) is first  # the very object: it was not computed again
    file.write_bytes(b"three")
    assert checksums.of(file) == hashlib.sha256(b"three").hexdigest()


def test_verify_returns_what_the_server_serves_with(model_copy: Path) -> None:
    assert verify(model_copy, Checksums()) == read_manifest(model_copy)
