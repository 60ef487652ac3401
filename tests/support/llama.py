"""Small Llama checkpoints with random weights, and what they compute, in NumPy and nothing else.

The reference follows ``LlamaForCausalLM`` of Hugging Face: RMS norms before attention and feed-forward, rotation of
positions in halves, keys and values shared by groups of heads, SwiGLU.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from penstock.drivers.ctranslate2.checkpoint import demo_model_dir

Array = Any
VOCABULARY = len(json.loads((demo_model_dir() / "vocabulary.json").read_text()))
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": [1, 2],
}


@dataclass
class Llama:
    """A model of ``config`` with weights by name."""

    config: dict[str, Any]
    weights: dict[str, Array] = field(default_factory=dict[str, Array])

    @classmethod
    def random(cls, seed: int = 7, **changes: Any) -> "Llama":
        """Return a model with random weights, large enough that every part of it shows in what comes out."""
        made = cls({**CONFIG, **changes})
        random, config = np.random.default_rng(seed), made.config
        hidden, between = config["hidden_size"], config["intermediate_size"]
        size = config.get("head_dim") or hidden // config["num_attention_heads"]
        rows, rows_kv = config["num_attention_heads"] * size, config["num_key_value_heads"] * size

        def matrix(name: str, out: int, into: int) -> None:
            made.weights[name] = random.normal(0, 1.5 / np.sqrt(into), (out, into)).astype("float32")

        def norm(name: str) -> None:
            made.weights[name] = random.uniform(0.5, 1.5, hidden).astype("float32")

        matrix("model.embed_tokens.weight", config["vocab_size"], hidden)
        norm("model.norm.weight")
        if not config["tie_word_embeddings"]:
            matrix("lm_head.weight", config["vocab_size"], hidden)
        for index in range(config["num_hidden_layers"]):
            at = f"model.layers.{index}"
            norm(f"{at}.input_layernorm.weight")
            norm(f"{at}.post_attention_layernorm.weight")
            for name, out in (("q", rows), ("k", rows_kv), ("v", rows_kv)):
                matrix(f"{at}.self_attn.{name}_proj.weight", out, hidden)
                if config["model_type"] == "qwen2":
                    made.weights[f"{at}.self_attn.{name}_proj.bias"] = random.normal(0, 1, out).astype(
                        "float32"
                    )
            matrix(f"{at}.self_attn.o_proj.weight", hidden, rows)
            matrix(f"{at}.mlp.gate_proj.weight", between, hidden)
            matrix(f"{at}.mlp.up_proj.weight", between, hidden)
            matrix(f"{at}.mlp.down_proj.weight", hidden, between)
        return made

    def logits(self, tokens: list[int]) -> Array:
        """Return the logits after each of ``tokens``."""
        weights, config = self.weights, self.config
        x = weights["model.embed_tokens.weight"][tokens]
        for index in range(config["num_hidden_layers"]):
            at = f"model.layers.{index}"
            x = x + self._attention(self._norm(x, f"{at}.input_layernorm.weight"), f"{at}.self_attn")
            h = self._norm(x, f"{at}.post_attention_layernorm.weight")
            gate = h @ weights[f"{at}.mlp.gate_proj.weight"].T
            up = h @ weights[f"{at}.mlp.up_proj.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[f"{at}.mlp.down_proj.weight"].T
        head = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
        return self._norm(x, "model.norm.weight") @ weights[head].T

    def greedy(self, tokens: list[int], count: int) -> list[int]:
        """Return the ``count`` most likely tokens, one after the other."""
        found = list(tokens)
        for _ in range(count):
            found.append(int(self.logits(found)[-1].argmax()))
        return found[len(tokens) :]

    def _norm(self, x: Array, name: str) -> Array:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.config["rms_norm_eps"]) * self.weights[name]

    def _attention(self, h: Array, at: str) -> Array:
        heads, heads_kv = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        size = self.config.get("head_dim") or self.config["hidden_size"] // heads

        def projected(name: str, count: int) -> Array:
            found = h @ self.weights[f"{at}.{name}_proj.weight"].T + self.weights.get(
                f"{at}.{name}_proj.bias", 0
            )
            return found.reshape(len(h), count, size).transpose(1, 0, 2)

        query, key = (self._rotated(projected(*one), size) for one in (("q", heads), ("k", heads_kv)))
        key, value = (np.repeat(one, heads // heads_kv, 0) for one in (key, projected("v", heads_kv)))
        scores = query @ key.transpose(0, 2, 1) / np.sqrt(size)
        scores = np.where(np.tril(np.ones(scores.shape[1:], bool)), scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ value
        return mixed.transpose(1, 0, 2).reshape(len(h), heads * size) @ self.weights[f"{at}.o_proj.weight"].T

    def _rotated(self, x: Array, size: int) -> Array:
        frequencies = self.config["rope_theta"] ** -(np.arange(0, size, 2) / size) / self._factors(size)
        angles = np.outer(np.arange(x.shape[1]), frequencies)
        cos, sin = (np.concatenate([f(angles)] * 2, -1) for f in (np.cos, np.sin))
        first, second = np.split(x, 2, -1)
        return x * cos + np.concatenate([-second, first], -1) * sin

    def _factors(self, size: int) -> Array:
        scaling = self.config.get("rope_scaling") or {}
        if scaling.get("rope_type") == "linear":
            return np.full(size // 2, scaling["factor"])
        if scaling.get("rope_type") != "llama3":
            return np.ones(size // 2)
        frequencies = self.config["rope_theta"] ** -(np.arange(0, size, 2) / size)
        waves = 2 * np.pi / frequencies
        trained = scaling["original_max_position_embeddings"]
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        smooth = (trained / waves - low) / (high - low)
        between = (1 - smooth) * frequencies / scaling["factor"] + smooth * frequencies
        scaled = np.where(waves > trained / low, frequencies / scaling["factor"], frequencies)
        scaled = np.where((waves <= trained / low) & (waves >= trained / high), between, scaled)
        return frequencies / scaled

    def save(self, folder: Path, *, dtype: str = "F32", shards: int = 1) -> Path:
        """Write the checkpoint as Hugging Face does, with the tokenizer of the demonstration model."""
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(self.config))
        shutil.copyfile(demo_model_dir() / "tokenizer.json", folder / "tokenizer.json")
        names = sorted(self.weights)
        if shards == 1:
            write_tensors(folder / "model.safetensors", self.weights, dtype)
            return folder
        places: dict[str, str] = {}
        for number in range(shards):
            file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
            mine = names[number::shards]
            write_tensors(folder / file, {name: self.weights[name] for name in mine}, dtype)
            places |= dict.fromkeys(mine, file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
        return folder


def write_tensors(file: Path, tensors: dict[str, Array], dtype: str = "F32") -> None:
    """Write a safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts: list[bytes] = []
    at = 0
    for name, tensor in tensors.items():
        whole = np.ascontiguousarray(tensor, "float32")
        data = {
            "F32": lambda whole=whole: whole.tobytes(),
            "F16": lambda whole=whole: whole.astype("float16").tobytes(),
            "BF16": lambda whole=whole: (whole.view("uint32") >> 16).astype("uint16").tobytes(),
        }[dtype]()
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
        parts.append(data)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))
