"""Sentence encoders of the BERT family: a local checkpoint, made into what CTranslate2 runs, once per node.

A checkpoint is a folder as sentence-transformers writes it: ``config.json``, ``tokenizer.json``,
``model.safetensors``, and ``1_Pooling/config.json`` with mean pooling. The weights become 8-bit integers;
what that costs is measured in recipes/embedding_model.
"""

import hashlib
import importlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from penstock.base.errors import InvalidInputError
from penstock.drivers.processes.files import exclusive

LOG = logging.getLogger("penstock.bert")
WEIGHTS = "model.safetensors"
CHECKPOINT_FILES = (WEIGHTS, "config.json", "tokenizer.json")
QUANTIZATION = "int8"
_VERSION = "1"  # of this conversion; another one makes converted folders anew
_CONVERT_WAIT_SECONDS = 300.0
_LAYERS_MAX = 48
_POOLING = Path("1_Pooling") / "config.json"


def is_checkpoint(folder: Path) -> bool:
    """Tell whether a folder holds the weights of an encoder that must be converted first."""
    return (folder / WEIGHTS).is_file() and not (folder / "model.bin").exists()


def _refuse(sentence: str) -> InvalidInputError:
    return InvalidInputError(sentence, field="config.json")


def dimensions_of(folder: Path) -> int:
    """Return the length of the vectors; raises InvalidInputError if the checkpoint is of another kind."""
    return int(_config(folder)["hidden_size"])


def _config(folder: Path) -> Mapping[str, Any]:
    """Return the checked configuration of the checkpoint."""
    try:
        config = cast("Mapping[str, Any]", json.loads((folder / "config.json").read_text("utf-8")))
        kinds = (config["model_type"], config["hidden_act"])
        sizes = [int(config[key]) for key in ("num_hidden_layers", "num_attention_heads", "hidden_size")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _refuse(f"config.json is not that of a BERT encoder: {error!r}.") from error
    if kinds != ("bert", "gelu") or config.get("position_embedding_type", "absolute") != "absolute":
        raise _refuse("only BERT encoders with GELU and absolute positions can be served as embeddings.")
    if not (0 < sizes[0] <= _LAYERS_MAX and sizes[1] > 0 and sizes[2] % sizes[1] == 0):
        raise _refuse("config.json states a shape that no BERT encoder has.")
    pooling = folder / _POOLING
    if pooling.is_file():
        modes = cast("dict[str, object]", json.loads(pooling.read_text("utf-8")))
        if modes.get("pooling_mode_mean_tokens") is not True:
            raise InvalidInputError("only mean pooling can be served.", field=str(_POOLING))
    return config


def converted(folder: Path, cache: Path) -> Path:
    """Return the folder of the converted checkpoint under ``cache``, made at first use.

    One process converts, the others wait; a crash leaves no half folder under the final name. The name holds
    the weights' size and time, so changed weights are converted anew. Raises InvalidInputError, ValueError.
    """
    status = (folder / WEIGHTS).stat()
    facts = f"{folder} {status.st_size} {status.st_mtime_ns} {_VERSION}"
    target = cache / hashlib.sha256(facts.encode()).hexdigest()[:24]
    if (target / "model.bin").is_file():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with exclusive(cache / f"{target.name}.lock", wait_seconds=_CONVERT_WAIT_SECONDS) as held:
        if held is None:
            raise ValueError("another process is converting this model and does not come to an end")
        if (target / "model.bin").is_file():
            return target
        half = target.with_name(f".half-{target.name}")
        if half.exists():
            shutil.rmtree(half)
        half.mkdir()
        _convert(folder, half)
        shutil.copyfile(folder / "tokenizer.json", half / "tokenizer.json")
        half.replace(target)
        LOG.info("converted %s into %s", folder, target)
    return target


def _convert(folder: Path, target: Path) -> None:
    """Write the CTranslate2 encoder: the layout of weights is that of Hugging Face's BertModel."""
    numpy: Any = importlib.import_module("numpy")
    specs: Any = importlib.import_module("ctranslate2.specs.transformer_spec")
    common: Any = importlib.import_module("ctranslate2.specs.common_spec")
    config = _config(folder)
    weights = _read(folder / WEIGHTS)
    encoder = specs.TransformerEncoderSpec(
        config["num_hidden_layers"],
        config["num_attention_heads"],
        pre_norm=False,
        activation=common.Activation.GELU,
        layernorm_embedding=True,
        num_source_embeddings=2,
        embeddings_merge=common.EmbeddingsMerge.ADD,
    )
    try:
        _fill(encoder, weights, numpy)
    except KeyError as error:
        raise InvalidInputError(f"{WEIGHTS} has no tensor {error}.", field=WEIGHTS) from error
    spec = specs.TransformerEncoderModelSpec(encoder)
    vocabulary = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    spec.register_vocabulary([token for token, _ in sorted(vocabulary.items(), key=lambda item: item[1])])
    spec.config.unk_token = "[UNK]"  # noqa: S105 - a token of the vocabulary, no secret
    spec.config.layer_norm_epsilon = float(config.get("layer_norm_eps", 1e-12))
    spec.validate()
    spec.optimize(quantization=QUANTIZATION)
    spec.save(os.fspath(target))


def _read(path: Path) -> Mapping[str, Any]:
    """Return the tensors in 32-bit floats by name; raises ValueError if the file is damaged."""
    library: Any = importlib.import_module("safetensors")
    load: Any = importlib.import_module("safetensors.numpy").load_file
    try:
        tensors = load(path)
    except library.SafetensorError as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    return {
        name.removeprefix("bert."): tensor.astype("float32")
        for name, tensor in tensors.items()
        if tensor.dtype.kind == "f"
    }


def _fill(encoder: Any, weights: Mapping[str, Any], numpy: Any) -> None:
    def linear(spec: Any, *names: str) -> None:
        spec.weight = numpy.concatenate([weights[f"{name}.weight"] for name in names])
        spec.bias = numpy.concatenate([weights[f"{name}.bias"] for name in names])

    def norm(spec: Any, name: str) -> None:
        spec.gamma, spec.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]

    encoder.scale_embeddings = False
    encoder.embeddings[0].weight = weights["embeddings.word_embeddings.weight"]
    encoder.embeddings[1].weight = weights["embeddings.token_type_embeddings.weight"]
    encoder.position_encodings.encodings = weights["embeddings.position_embeddings.weight"]
    norm(encoder.layernorm_embedding, "embeddings.LayerNorm")
    for index, layer in enumerate(encoder.layer):
        at = f"encoder.layer.{index}"
        attention = layer.self_attention
        linear(attention.linear[0], *(f"{at}.attention.self.{name}" for name in ("query", "key", "value")))
        linear(attention.linear[1], f"{at}.attention.output.dense")
        norm(attention.layer_norm, f"{at}.attention.output.LayerNorm")
        linear(layer.ffn.linear_0, f"{at}.intermediate.dense")
        linear(layer.ffn.linear_1, f"{at}.output.dense")
        norm(layer.ffn.layer_norm, f"{at}.output.LayerNorm")
