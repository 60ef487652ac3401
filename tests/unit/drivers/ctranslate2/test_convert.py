"""Checkpoints of the Llama family become models of the embedded engine that compute the same; others are refused."""

import json
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest

from penstock.base.errors import InvalidInputError
from penstock.drivers.ctranslate2.checkpoint import inspect_model_folder
from penstock.drivers.ctranslate2.convert import convert
from tests.support.llama import VOCABULARY, Llama, write_tensors

TOKENS = [11, 402, 77, 1_300, 5, 9, 640, 88, 31, 7, 500, 12]
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
KINDS: dict[str, dict[str, Any]] = {
    "grouped heads": {},
    "a head for each": {"num_key_value_heads": 4},
    "one head for all": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True},
    "wide heads": {"head_dim": 16},
    "another base": {"rope_theta": 500_000.0},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "llama3": {"rope_scaling": LLAMA3},
    "mistral": {"model_type": "mistral", "sliding_window": None},
    "qwen2": {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 64},
}


def logits_of(folder: Path, tokens: list[int]) -> Any:
    generator = ctranslate2.Generator(str(folder), device="cpu", compute_type="default", intra_threads=1)
    found = generator.forward_batch(
        ctranslate2.StorageView.from_array(np.array([tokens], "int32")),
        ctranslate2.StorageView.from_array(np.array([len(tokens)], "int32")),
    )
    return np.array(found)[0]


def greedy_of(folder: Path, tokens: list[int], count: int) -> list[int]:
    names = json.loads((folder / "vocabulary.json").read_text())
    generator = ctranslate2.Generator(str(folder), device="cpu", intra_threads=1)
    (found,) = generator.generate_batch(
        [[names[token] for token in tokens]],
        max_length=count,
        min_length=count,
        beam_size=1,
        include_prompt_in_result=False,
        end_token=[names[3_000]],
    )
    return list(found.sequences_ids[0])


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_checkpoint(tmp_path: Path, kind: str) -> None:
    llama = Llama.random(**KINDS[kind])
    convert(llama.save(tmp_path / "hf"), tmp_path / "ct2", quantization="float32")
    expected, found = llama.logits(TOKENS), logits_of(tmp_path / "ct2", TOKENS)
    np.testing.assert_allclose(found[:, :VOCABULARY], expected, rtol=0, atol=2e-3 * np.abs(expected).max())


def test_the_reference_feels_every_kind_of_scaling() -> None:
    plain = Llama.random().logits(TOKENS)
    for kind in ("linear", "llama3", "another base"):
        assert (
            np.abs(Llama.random(**KINDS[kind]).logits(TOKENS) - plain).max() > 0.05 * np.abs(plain).max()
        ), kind


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_shorter_floats_and_shards_are_read(tmp_path: Path, dtype: str) -> None:
    llama = Llama.random()
    convert(llama.save(tmp_path / "hf", dtype=dtype, shards=3), tmp_path / "ct2", quantization="float32")
    expected, found = llama.logits(TOKENS), logits_of(tmp_path / "ct2", TOKENS)
    assert np.corrcoef(expected.ravel(), found[:, :VOCABULARY].ravel())[0, 1] > 0.999


@pytest.mark.parametrize(
    ("quantization", "least"), [("float16", 0.9999), ("int8", 0.99), ("int8_float16", 0.99)]
)
def test_quantised_models_say_nearly_the_same(tmp_path: Path, quantization: str, least: float) -> None:
    llama = Llama.random()
    about = convert(llama.save(tmp_path / "hf"), tmp_path / "ct2", quantization=quantization)
    assert about["quantization"] == quantization
    expected, found = llama.logits(TOKENS), logits_of(tmp_path / "ct2", TOKENS)
    assert np.corrcoef(expected.ravel(), found[:, :VOCABULARY].ravel())[0, 1] > least


def test_greedy_tokens_are_the_same_and_the_folder_is_servable(tmp_path: Path) -> None:
    llama = Llama.random()
    convert(llama.save(tmp_path / "hf"), tmp_path / "ct2", quantization="float32", name="mine")
    assert greedy_of(tmp_path / "ct2", TOKENS, 8) == llama.greedy(TOKENS, 8)
    facts = inspect_model_folder(tmp_path / "ct2")
    assert (facts["name"], facts["context_tokens"], facts["chat_template"]) == ("mine", 256, "chatml")
    assert facts["parameters"] == sum(weight.size for weight in llama.weights.values())
    assert len(facts["stop_tokens"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct2", "hf"]


def adapter(folder: Path, llama: Llama, rank: int = 2, **changes: Any) -> tuple[Path, Llama]:
    """Write an adapter of two modules; return it and the model that it makes of ``llama``."""
    random = np.random.default_rng(3)
    names = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"]
    tensors: dict[str, Any] = {}
    weights = dict(llama.weights)
    for name in names:
        out, into = weights[f"{name}.weight"].shape
        down, up = random.normal(0, 0.3, (rank, into)), random.normal(0, 0.3, (out, rank))
        tensors[f"base_model.model.{name}.lora_A.weight"] = down
        tensors[f"base_model.model.{name}.lora_B.weight"] = up
        weights[f"{name}.weight"] = (weights[f"{name}.weight"] + 4.0 * up @ down).astype("float32")
    folder.mkdir()
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 4.0 * rank, "bias": "none", **changes}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    write_tensors(folder / "adapter_model.safetensors", tensors)
    return folder, Llama(llama.config, weights)


def test_a_lora_adapter_is_merged(tmp_path: Path) -> None:
    llama = Llama.random()
    folder, merged = adapter(tmp_path / "lora", llama)
    convert(llama.save(tmp_path / "hf"), tmp_path / "ct2", quantization="float32", adapter=folder)
    expected, found = merged.logits(TOKENS), logits_of(tmp_path / "ct2", TOKENS)
    np.testing.assert_allclose(found[:, :VOCABULARY], expected, rtol=0, atol=2e-3 * np.abs(expected).max())
    assert np.abs(llama.logits(TOKENS) - expected).max() > 0.05 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "without bias"),
    ],
    ids=["dora", "another type", "whole modules", "bias"],
)
def test_adapters_of_other_kinds_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    llama = Llama.random()
    folder, _ = adapter(tmp_path / "lora", llama, **changes)
    with pytest.raises(InvalidInputError, match=words):
        convert(llama.save(tmp_path / "hf"), tmp_path / "ct2", adapter=folder)


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    folder, _ = adapter(tmp_path / "lora", Llama.random(num_hidden_layers=2))
    with pytest.raises(InvalidInputError, match=r"the base has no model\.layers\.1"):
        convert(Llama.random(num_hidden_layers=1).save(tmp_path / "hf"), tmp_path / "ct2", adapter=folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gemma3"}, "gemma3.*Llama family"),
        ({"model_type": None}, "Llama family"),
        ({"auto_map": {}}, "Python code"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantised already"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"sliding_window": 64, "model_type": "mistral"}, "window"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "llama3 needs"),
        ({"num_hidden_layers": 0}, "no model has"),
        ({"num_key_value_heads": 3}, "do not go together"),
        ({"hidden_size": "many"}, "does not say"),
        ({"eos_token_id": None}, "ends an answer"),
        ({"vocab_size": 100}, "tokenizer.json has token"),
    ],
    ids=range(13),
)
def test_other_models_are_refused_with_words(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    folder = Llama.random().save(tmp_path / "hf")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(InvalidInputError, match=words):
        convert(folder, tmp_path / "ct2")
    assert not (tmp_path / "ct2").exists()


def test_weights_that_are_damaged_absent_or_of_another_shape_are_named(tmp_path: Path) -> None:
    llama = Llama.random()
    folder = llama.save(tmp_path / "hf")
    whole = (folder / "model.safetensors").read_bytes()
    for name, data, words in (
        ("cut", whole[:-8], "beyond its end"),
        ("no header", b"\xff" * 64, "longer than it can be"),
        ("no JSON", (4).to_bytes(8, "little") + b"oops", "damaged"),
    ):
        (folder / "model.safetensors").write_bytes(data)
        with pytest.raises(InvalidInputError, match=words) as caught:
            convert(folder, tmp_path / "ct2")
        assert caught.value.field == "model.safetensors", name
    (folder / "model.safetensors").unlink()
    with pytest.raises(InvalidInputError, match="there are no weights"):
        convert(folder, tmp_path / "ct2")
    del llama.weights["model.layers.1.mlp.up_proj.weight"]
    write_tensors(folder / "model.safetensors", llama.weights)
    with pytest.raises(InvalidInputError, match=r"no tensor model\.layers\.1\.mlp\.up_proj\.weight"):
        convert(folder, tmp_path / "ct2")
    llama.weights["model.layers.0.self_attn.q_proj.weight"] = np.zeros((8, 32))
    write_tensors(folder / "model.safetensors", llama.weights)
    with pytest.raises(InvalidInputError, match="has the shape"):
        convert(folder, tmp_path / "ct2")
    (tmp_path / "ct2").mkdir()
    with pytest.raises(InvalidInputError, match="there already"):
        convert(folder, tmp_path / "ct2")
