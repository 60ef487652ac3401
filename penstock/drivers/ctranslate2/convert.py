"""A local Hugging Face checkpoint of the Llama family, made into a model folder of the embedded engine.

Needs neither torch nor transformers: tensors are read with NumPy and written by CTranslate2's own specification. It
takes four bytes of memory for each parameter. The target appears when all of it is written, by one rename.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from penstock.base.errors import InvalidInputError
from penstock.drivers.ctranslate2.checkpoint import check_byte_level
from penstock.drivers.ctranslate2.llama import Shape, read_shape, specification
from penstock.drivers.ctranslate2.lora import Adapter
from penstock.drivers.ctranslate2.template import TEMPLATES
from penstock.drivers.ctranslate2.tensors import Tensors, open_tensors

QUANTIZATIONS = ("int8", "int8_float16", "float16", "float32")
_WRITTEN = ("model.bin", "config.json", "vocabulary.json", "tokenizer.json")
_STOPS_MAX = 8


def convert(
    folder: Path,
    target: Path,
    *,
    quantization: str = "int8",
    adapter: Path | None = None,
    name: str | None = None,
) -> Mapping[str, Any]:
    """Write the checkpoint in ``folder`` to ``target``, which must not exist; return its manifest.

    ``adapter``: a folder of a LoRA adapter to merge. Raises InvalidInputError naming the file or field that is wrong.
    """
    if quantization not in QUANTIZATIONS:
        raise InvalidInputError(f"one of {', '.join(QUANTIZATIONS)}", field="quantization")
    if target.exists():
        raise InvalidInputError(f"{target} is there already; name a folder that is not.", field="target")
    shape = read_shape(folder)
    tokens, special = _tokens(folder, shape.vocabulary)
    tensors = open_tensors(folder)
    merge = None if adapter is None else Adapter.open(adapter)
    _check(tensors, shape)
    spec = specification(shape, _reader(tensors, merge), tensors.__contains__)
    if merge is not None:
        merge.check_used()
    stops = _stop_tokens(folder, tokens)
    spec.register_vocabulary(tokens)
    spec.config.bos_token = _named(folder, "bos_token_id", tokens) or stops[0]
    spec.config.eos_token = stops[0]
    spec.config.unk_token = stops[0]
    spec.config.layer_norm_epsilon = shape.norm_epsilon
    spec.validate()
    spec.optimize(quantization=quantization)
    half = target.with_name(f".half-{target.name}")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    try:
        spec.save(os.fspath(half))
        shutil.copyfile(folder / "tokenizer.json", half / "tokenizer.json")
        template = next((one for one, about in TEMPLATES.items() if about.opening in special), None)
        about = {
            "name": name or folder.name,
            "format": "ctranslate2",
            "parameters": _parameters(tensors),
            "context_tokens": shape.context_tokens,
            "quantization": quantization,
            "stop_tokens": stops,
            **({"chat_template": template} if template else {}),
            "files": {file: hashlib.sha256((half / file).read_bytes()).hexdigest() for file in _WRITTEN},
        }
        (half / "manifest.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
        half.replace(target)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return about


def _reader(tensors: Tensors, adapter: Adapter | None) -> Any:
    def read(name: str) -> Any:
        weight = tensors.read(name)
        return weight if adapter is None else adapter.merged(name, weight)

    return read


def _check(tensors: Tensors, shape: Shape) -> None:
    """Raise InvalidInputError if the weights are not of the shape that config.json states."""
    rows = shape.heads * shape.head_size
    rows_kv = shape.heads_kv * shape.head_size
    expected: dict[str, tuple[int, int]] = {"model.embed_tokens.weight": (shape.vocabulary, shape.hidden)}
    for index in range(shape.layers):
        at = f"model.layers.{index}.self_attn"
        expected |= {
            f"{at}.q_proj.weight": (rows, shape.hidden),
            f"{at}.k_proj.weight": (rows_kv, shape.hidden),
            f"{at}.v_proj.weight": (rows_kv, shape.hidden),
            f"{at}.o_proj.weight": (shape.hidden, rows),
        }
    for name, wanted in expected.items():
        if tensors.shape(name) != wanted:
            raise InvalidInputError(
                f"{name} has the shape {tensors.shape(name)}, and by config.json it must be {wanted}.",
                field="config.json",
            )


def _parameters(tensors: Tensors) -> int:
    total = 0
    for name in tensors:
        count = 1
        for size in tensors.shape(name):
            count *= size
        total += count
    return total


def _tokens(folder: Path, vocabulary: int) -> tuple[list[str], set[str]]:
    """Return the tokens in the order of the weights' rows, and which of them were added beside the vocabulary."""
    check_byte_level(folder)
    document = cast("dict[str, Any]", json.loads((folder / "tokenizer.json").read_text("utf-8")))
    ids: dict[str, int] = dict(document["model"]["vocab"])
    added = {str(one["content"]): int(one["id"]) for one in document.get("added_tokens", ())}
    ids |= added
    tokens = [f"<extra_id_{number}>" for number in range(vocabulary)]
    for token, number in ids.items():
        if not 0 <= number < vocabulary:
            raise InvalidInputError(
                f"tokenizer.json has token {number}, and config.json says that there are {vocabulary}.",
                field="tokenizer.json",
            )
        tokens[number] = token
    return tokens, set(added)


def _stop_tokens(folder: Path, tokens: Sequence[str]) -> list[str]:
    """Return the tokens that end an answer, as generation_config.json and config.json say; the first is the engine's."""
    found: list[str] = []
    for file in ("generation_config.json", "config.json"):
        said = _object(folder / file).get("eos_token_id")
        numbers = cast("list[object]", said) if isinstance(said, list) else [said]
        found += [tokens[one] for one in numbers if isinstance(one, int) and 0 <= one < len(tokens)]
    if not found:
        raise InvalidInputError(
            "config.json names no token that ends an answer (eos_token_id).", field="config.json"
        )
    return list(dict.fromkeys(found))[:_STOPS_MAX]


def _named(folder: Path, field: str, tokens: Sequence[str]) -> str | None:
    number = _object(folder / "config.json").get(field)
    return tokens[number] if isinstance(number, int) and 0 <= number < len(tokens) else None


def _object(file: Path) -> Mapping[str, object]:
    try:
        document: object = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # generation_config.json need not be there; config.json was read before
    return cast("Mapping[str, object]", document) if isinstance(document, dict) else {}
