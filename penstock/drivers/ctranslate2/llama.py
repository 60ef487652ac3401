"""Checkpoints of the Llama family as CTranslate2 describes them: what can be, and how its weights are laid out.

Layout of the weights: ``LlamaForCausalLM`` of Hugging Face, which Mistral and Qwen2 share. Positions are rotated in
halves. Every kind of scaling becomes one factor for each frequency, which the engine takes as such
(``RotaryScalingType.Su`` with both of its lists the same and a factor of attention of 1).
"""

import importlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from penstock.base.errors import InvalidInputError

FAMILY = ("llama", "mistral", "qwen2")
LAYERS_MAX = 256
Read = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """What config.json says of a model."""

    layers: int
    heads: int
    heads_kv: int
    hidden: int
    head_size: int
    vocabulary: int
    context_tokens: int
    norm_epsilon: float
    rotary_base: float
    scaling: Mapping[str, Any]
    ties_embeddings: bool


def _refuse(sentence: str) -> InvalidInputError:
    return InvalidInputError(sentence, field="config.json")


def read_shape(folder: Path) -> Shape:
    """Return the shape of a checkpoint; InvalidInputError says what keeps it from being converted."""
    try:
        config = cast("dict[str, Any]", json.loads((folder / "config.json").read_text("utf-8")))
        kind = config.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise _refuse(f"config.json in {folder} cannot be read as JSON: {error}.") from error
    if kind not in FAMILY:
        raise _refuse(
            f"config.json says model_type {kind!r}; the embedded engine converts the Llama family: {', '.join(FAMILY)}."
            " vLLM serves others."
        )
    for reason, is_so in _reasons(config).items():
        if is_so:
            raise _refuse(f"{reason}; such models are not converted. vLLM serves them.")
    try:
        shape = _shape(config)
    except (KeyError, TypeError, ValueError) as error:
        raise _refuse(f"config.json does not say what is needed: {error!r}.") from error
    if (
        not 0 < shape.layers <= LAYERS_MAX
        or min(shape.heads, shape.heads_kv, shape.head_size, shape.vocabulary) < 1
    ):
        raise _refuse("config.json states a shape that no model has.")
    if shape.heads % shape.heads_kv or shape.head_size % 2:
        raise _refuse("the heads of config.json do not go together.")
    frequency_factors(shape)
    return shape


def _reasons(config: Mapping[str, Any]) -> dict[str, bool]:
    """Return what config.json may say that makes a model another one."""
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    whole = int(config.get("max_position_embeddings") or 0)
    return {
        "config.json names Python code that belongs to the model": "auto_map" in config,
        "its weights are quantised already": bool(config.get("quantization_config")),
        f"its activation is {config.get('hidden_act')!r}, not silu": config.get("hidden_act", "silu")
        != "silu",
        "its attention sees a window only": isinstance(window, int) and window < whole,
    }


def _shape(config: Mapping[str, Any]) -> Shape:
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    rotary = cast("Mapping[str, Any]", config.get("rope_parameters") or {})  # its name since transformers 5
    return Shape(
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        heads_kv=int(config.get("num_key_value_heads") or heads),
        hidden=hidden,
        head_size=int(config.get("head_dim") or hidden // heads),
        vocabulary=int(config["vocab_size"]),
        context_tokens=int(config.get("max_position_embeddings") or 2_048),
        norm_epsilon=float(config.get("rms_norm_eps", 1e-6)),
        rotary_base=float(rotary.get("rope_theta") or config.get("rope_theta") or 10_000.0),
        scaling=cast("Mapping[str, Any]", config.get("rope_scaling") or rotary),
        ties_embeddings=bool(config.get("tie_word_embeddings", False)),
    )


def frequency_factors(shape: Shape) -> list[float] | None:
    """Return by how much each rotary frequency is divided, None where none is; InvalidInputError for kinds unknown.

    ``linear`` divides all by one factor; ``llama3`` the long waves alone, the ones between by degrees
    (``_compute_llama3_parameters`` of Hugging Face transformers).
    """
    scaling = shape.scaling
    kind = str(scaling.get("rope_type") or scaling.get("type") or "default")
    half = shape.head_size // 2
    if kind == "default":
        return None
    try:
        factor = float(scaling["factor"])
        if kind == "linear":
            return [factor] * half
        if kind == "llama3":
            low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
            trained = float(scaling["original_max_position_embeddings"])
            return [_llama3(index, shape, factor, low, high, trained) for index in range(half)]
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise _refuse(f"rope_scaling does not say what {kind} needs: {error!r}.") from error
    raise _refuse(
        f"rope_scaling of type {kind!r} is not converted; linear and llama3 are. vLLM serves such models."
    )


def _llama3(index: int, shape: Shape, factor: float, low: float, high: float, trained: float) -> float:
    wave = 2 * math.pi * shape.rotary_base ** (2 * index / shape.head_size)
    if wave < trained / high:
        return 1.0
    if wave > trained / low:
        return factor
    smooth = (trained / wave - low) / (high - low)
    return 1.0 / ((1 - smooth) / factor + smooth)


def specification(shape: Shape, read: Read, has: Callable[[str], bool]) -> Any:
    """Return CTranslate2's description of the model, filled with the tensors that ``read`` gives by name."""
    numpy: Any = importlib.import_module("numpy")
    transformer: Any = importlib.import_module("ctranslate2.specs.transformer_spec")
    attention_spec: Any = importlib.import_module("ctranslate2.specs.attention_spec")
    common: Any = importlib.import_module("ctranslate2.specs.common_spec")
    factors = frequency_factors(shape)
    scaled: dict[str, Any] = {}
    if factors is not None:
        scaled = {
            "rotary_scaling_type": attention_spec.RotaryScalingType.Su,
            "original_max_position_embeddings": shape.context_tokens,
            "max_position_embeddings": shape.context_tokens,
        }
    spec = transformer.TransformerDecoderModelSpec.from_config(
        shape.layers,
        shape.heads,
        activation=common.Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=False,
        rotary_base=shape.rotary_base,
        num_heads_kv=None if shape.heads_kv == shape.heads else shape.heads_kv,
        head_dim=shape.head_size,
        **scaled,
    )
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = read("model.embed_tokens.weight")
    decoder.layer_norm.gamma = read("model.norm.weight")
    tied = shape.ties_embeddings or not has("lm_head.weight")
    decoder.projection.weight = decoder.embeddings.weight if tied else read("lm_head.weight")
    for index, layer in enumerate(decoder.layer):
        _fill(layer, f"model.layers.{index}", read, has, numpy)
        if factors is not None:
            table = numpy.array(factors, dtype="float32")
            layer.self_attention.rotary_scaling_long_factor = table
            layer.self_attention.rotary_scaling_short_factor = table
    return spec


def _fill(layer: Any, at: str, read: Read, has: Callable[[str], bool], numpy: Any) -> None:
    def linear(spec: Any, *names: str) -> None:
        spec.weight = numpy.concatenate([read(f"{at}.{name}.weight") for name in names])
        biases = [f"{at}.{name}.bias" for name in names]
        if any(map(has, biases)):
            spec.bias = numpy.concatenate([read(bias) for bias in biases])

    attention, feed = layer.self_attention, layer.ffn
    attention.layer_norm.gamma = read(f"{at}.input_layernorm.weight")
    linear(attention.linear[0], *(f"self_attn.{name}_proj" for name in "qkv"))
    linear(attention.linear[1], "self_attn.o_proj")
    feed.layer_norm.gamma = read(f"{at}.post_attention_layernorm.weight")
    linear(feed.linear_0, "mlp.gate_proj")
    linear(feed.linear_0_noact, "mlp.up_proj")
    linear(feed.linear_1, "mlp.down_proj")
