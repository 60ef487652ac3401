"""A folder as a model that vLLM can serve, and one as a LoRA adapter of it: what they say of themselves.

Only the JSON files are read; the weights are vLLM's business. A folder that names Python code to run is
refused: models are data.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from penstock.base.errors import InvalidInputError

CONFIG_BYTES_MAX = 4 << 20
FILES_MAX = 4_096
RANKS = (8, 16, 32, 64, 128, 256)  # those that vLLM has kernels for
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json")


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What decides how a model is laid over devices; ``quantization`` None: as it was trained."""

    architecture: str
    attention_heads: int
    context_tokens: int
    dtype: str
    quantization: str | None


@dataclass(frozen=True, slots=True)
class AdapterShape:
    """A LoRA adapter: its rank, and the model that it was trained on, as it says."""

    rank: int
    base_model: str


def _fail(field: str, sentence: str) -> InvalidInputError:
    return InvalidInputError(sentence, field=field)


def _object(folder: Path, file: str) -> dict[str, object]:
    try:
        if (folder / file).stat().st_size > CONFIG_BYTES_MAX:
            raise _fail(file, f"{file} in {folder} is larger than {CONFIG_BYTES_MAX} bytes.")
        document: object = json.loads((folder / file).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _fail(file, f"{file} in {folder} cannot be read as JSON: {error}.") from error
    if not isinstance(document, dict):
        raise _fail(file, f"{file} in {folder} must hold one JSON object.")
    return cast("dict[str, object]", document)


def _files(folder: Path, what: str) -> list[Path]:
    """Return the files of a folder; raises InvalidInputError for one that is not there or that has links out of it."""
    if not folder.is_dir():
        raise _fail("model_dir", f"There is no {what} in {folder} on this machine: copy it there.")
    files = sorted(folder.iterdir())
    if len(files) > FILES_MAX:
        raise _fail("model_dir", f"{folder} holds more than {FILES_MAX} files.")
    inside = folder.resolve()
    for path in files:
        if not path.resolve().is_relative_to(inside):
            raise _fail(path.name, f"{path.name} is a link out of {folder}; copy the file instead.")
    return files


def _whole(document: dict[str, object], key: str, default: int = 0) -> int:
    value = document.get(key, default)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default


def read_model(folder: Path) -> ModelShape:
    """Return what a model folder says; raises InvalidInputError whose ``field`` is the file that is wrong."""
    files = _files(folder, "model")
    config = _object(folder, "config.json")
    if "auto_map" in config:
        raise _fail(
            "config.json", "config.json names Python code that belongs to the model; such models are not run."
        )
    if not any(path.suffix == ".safetensors" for path in files):
        raise _fail("model.safetensors", f"There are no weights (*.safetensors) in {folder}.")
    _check_shards(folder, {path.name for path in files})
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise _fail("tokenizer.json", f"There is no tokenizer ({', '.join(_TOKENIZERS)}) in {folder}.")
    text = (
        cast("dict[str, object]", config["text_config"])
        if isinstance(config.get("text_config"), dict)
        else config
    )
    names = config.get("architectures")
    listed = cast("list[object]", names) if isinstance(names, list) else []
    heads = _whole(text, "num_attention_heads")
    if not listed or not heads:
        raise _fail("config.json", f"config.json in {folder} states no architecture or no attention heads.")
    return ModelShape(
        architecture=str(listed[0]),
        attention_heads=heads,
        context_tokens=_whole(text, "max_position_embeddings"),
        dtype=str(text.get("torch_dtype") or text.get("dtype") or config.get("torch_dtype") or "auto"),
        quantization=_quantization(config),
    )


def _check_shards(folder: Path, present: set[str]) -> None:
    """Raise InvalidInputError if the index names a file of weights that is not there."""
    index = "model.safetensors.index.json"
    if index not in present:
        return
    mapped = _object(folder, index).get("weight_map")
    named = (
        {str(name) for name in cast("dict[str, object]", mapped).values()}
        if isinstance(mapped, dict)
        else set[str]()
    )
    missing = sorted(named - present)
    if missing or not named:
        raise _fail(
            missing[0] if missing else index, f"{missing[0] if missing else index} is missing in {folder}."
        )


def _quantization(config: dict[str, object]) -> str | None:
    stated = config.get("quantization_config")
    if not isinstance(stated, dict):
        return None
    method = cast("dict[str, object]", stated).get("quant_method")
    return method if isinstance(method, str) and method else None


def read_adapter(folder: Path) -> AdapterShape:
    """Return what a folder of a LoRA adapter (as PEFT writes it) says; raises InvalidInputError naming the file."""
    _files(folder, "adapter")
    config = _object(folder, "adapter_config.json")
    if config.get("peft_type") != "LORA":
        raise _fail(
            "adapter_config.json",
            f"{folder} holds an adapter of type {config.get('peft_type')!r}; only LORA is served.",
        )
    if not (folder / "adapter_model.safetensors").is_file():
        raise _fail("adapter_model.safetensors", f"adapter_model.safetensors is missing in {folder}.")
    rank = _whole(config, "r")
    if not 0 < rank <= RANKS[-1]:
        raise _fail(
            "adapter_config.json", f"the rank of the adapter in {folder} must be from 1 to {RANKS[-1]}."
        )
    return AdapterShape(rank, str(config.get("base_model_name_or_path") or ""))
