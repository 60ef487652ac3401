"""What a folder holds that an operator wants to add as a model: its format, who can serve it, and its checksums."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from penstock.base.errors import InvalidInputError
from penstock.drivers.ctranslate2.checkpoint import inspect_model_folder
from penstock.drivers.vllm.checkpoint import read_adapter, read_model
from penstock.drivers.weights.fetch import digest_of

_ENCODERS = frozenset({"bert"})


def inspect_folder(folder: str) -> Mapping[str, Any]:
    """Return what the catalogue records of a model folder; InvalidInputError names the file that is wrong.

    A folder of Hugging Face weights that is no encoder is served by vLLM; everything else must be a model of
    the embedded engine.
    """
    path = Path(folder)
    if path.is_absolute() and (path / "adapter_config.json").is_file():
        return _adapter_facts(path)
    if _is_generative_checkpoint(path):
        return _checkpoint_facts(path)
    return inspect_model_folder(folder)


def _is_generative_checkpoint(folder: Path) -> bool:
    if not folder.is_absolute() or not folder.is_dir() or (folder / "model.bin").exists():
        return False
    try:
        config: object = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False  # the embedded engine says what is wrong with it
    kind = cast("dict[str, object]", config).get("model_type") if isinstance(config, dict) else None
    return kind not in _ENCODERS and (any(folder.glob("*.safetensors")) or kind is not None)


def _adapter_facts(folder: Path) -> Mapping[str, Any]:
    read_adapter(folder)
    return {**_facts(folder), "kind": "adapter", "context_tokens": 0}


def _checkpoint_facts(folder: Path) -> Mapping[str, Any]:
    shape = read_model(folder)
    return {**_facts(folder), "kind": "generation", "context_tokens": shape.context_tokens or 0}


def _facts(folder: Path) -> Mapping[str, Any]:
    files = {
        path.name: {"size_bytes": path.stat().st_size, "sha256": _digest_of(path)}
        for path in sorted(folder.iterdir())
        if path.is_file()
    }
    return {
        "name": folder.name,
        "dimensions": None,
        "format": "safetensors",
        "engines": ["vllm"],
        "path": str(folder),
        "size_bytes": sum(int(facts["size_bytes"]) for facts in files.values()),
        "files": files,
        "licence": None,
        "parameters": None,
        "demonstration": False,
    }


def _digest_of(path: Path) -> str:
    try:
        return digest_of(path)
    except OSError as error:
        raise InvalidInputError(f"{path.name} cannot be read: {error.strerror}.", field=path.name) from error
