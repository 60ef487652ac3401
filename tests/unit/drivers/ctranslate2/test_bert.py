"""Encoders: what is one, what is refused, and that a conversion happens once and whole."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from penstock.base.errors import InvalidInputError
from penstock.drivers.ctranslate2 import bert
from penstock.drivers.ctranslate2.checkpoint import (
    Checksums,
    demo_model_dir,
    inspect_model_folder,
    packaged_facts,
    verify,
)
from penstock.drivers.ctranslate2.packaged import embedding_model_dir


@pytest.fixture
def folder() -> Path:
    found = embedding_model_dir()
    assert found is not None
    return found


def copy_without_weights(folder: Path, target: Path) -> Path:
    """Return a copy whose weights are a few bytes: enough for everything that does not read them."""
    target.mkdir()
    for name in ("config.json", "tokenizer.json"):
        shutil.copyfile(folder / name, target / name)
    (target / bert.WEIGHTS).write_bytes(b"x")
    return target


def test_the_packaged_model_is_whole_and_known_without_reading_it(folder: Path) -> None:
    assert bert.is_checkpoint(folder)
    assert not bert.is_checkpoint(demo_model_dir())
    assert verify(folder, Checksums()).context_tokens == 256
    facts = packaged_facts(folder)
    assert facts == inspect_model_folder(folder)
    assert {name: facts[name] for name in ("kind", "dimensions", "format", "engine")} == {
        "kind": "embedding",
        "dimensions": 384,
        "format": "bert",
        "engine": "ctranslate2",
    }


def test_another_folder_has_no_checksums_of_the_packaged_one(folder: Path, tmp_path: Path) -> None:
    copy = copy_without_weights(folder, tmp_path / "mine")
    assert verify(copy, Checksums()).files == {}
    (copy / "tokenizer.json").write_text("[]")
    with pytest.raises(InvalidInputError, match="tokenizer"):
        verify(copy, Checksums())


@pytest.mark.parametrize(
    "change",
    [{"model_type": "gpt2"}, {"hidden_act": "relu"}, {"num_attention_heads": 7}, {"hidden_size": "x"}],
)
def test_another_kind_of_encoder_is_refused(folder: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    copy = copy_without_weights(folder, tmp_path / "mine")
    config = json.loads((copy / "config.json").read_text()) | change
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidInputError) as refused:
        inspect_model_folder(copy)
    assert refused.value.field == "config.json"


def test_another_pooling_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = copy_without_weights(folder, tmp_path / "mine")
    (copy / "1_Pooling").mkdir()
    (copy / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    with pytest.raises(InvalidInputError, match="mean pooling"):
        bert.dimensions_of(copy)


def test_two_replicas_convert_once(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(bert.converted(folder, tmp_path / "cache")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    made = (found[0] / "model.bin").stat().st_mtime_ns
    assert bert.converted(folder, tmp_path / "cache") == found[0]
    assert (found[0] / "model.bin").stat().st_mtime_ns == made
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".half")]


def test_weights_that_cannot_be_read_leave_nothing_usable(folder: Path, tmp_path: Path) -> None:
    copy = copy_without_weights(folder, tmp_path / "mine")
    with pytest.raises(ValueError, match="damaged"):
        bert.converted(copy, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/model.bin"))
