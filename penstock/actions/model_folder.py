"""What a folder holds that an operator wants to add as a model: its format, who can serve it, and its checksums."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.drivers.ctranslate2.checkpoint import inspect_model_folder
from penstock.drivers.vllm.checkpoint import read_adapter, read_model

_ENCODERS = frozenset({"bert"})
_HEAD_BYTES = 1 << 20


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
        path.name: {"size_bytes": path.stat().st_size, "sha256": digest_of(path)}
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


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file; of one over ``MODEL_FILE_HASHED_BYTES_MAX``, that of its size, first and last MiB.

    Reading hundreds of gigabytes would take longer than a request may; such a digest is marked ``ends:``.
    """
    size_bytes = path.stat().st_size
    try:
        with path.open("rb") as stream:
            if size_bytes <= limits.MODEL_FILE_HASHED_BYTES_MAX:
                return hashlib.file_digest(stream, "sha256").hexdigest()
            found = hashlib.sha256(str(size_bytes).encode())
            found.update(stream.read(_HEAD_BYTES))
            stream.seek(-_HEAD_BYTES, 2)
            found.update(stream.read(_HEAD_BYTES))
            return f"ends:{found.hexdigest()}"
    except OSError as error:
        raise InvalidInputError(f"{path.name} cannot be read: {error.strerror}.", field=path.name) from error
