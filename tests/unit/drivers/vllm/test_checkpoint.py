"""What is read of folders of models and adapters, and which are refused."""

import json
from pathlib import Path

import pytest

from penstock.base.errors import InvalidInputError
from penstock.drivers.vllm.checkpoint import AdapterShape, ModelShape, read_adapter, read_model
from tests.support.simulated_vllm import make_adapter, make_checkpoint


def test_a_model_says_its_shape(tmp_path: Path) -> None:
    plain = make_checkpoint(tmp_path / "plain")
    assert read_model(plain) == ModelShape("LlamaForCausalLM", 8, 4_096, "bfloat16", None)
    packed = make_checkpoint(tmp_path / "packed", quantization_config={"quant_method": "fp8"})
    assert read_model(packed).quantization == "fp8"
    nested = {"num_attention_heads": 16, "max_position_embeddings": 32, "dtype": "float16"}
    pictures = make_checkpoint(tmp_path / "pictures", text_config=nested)
    assert read_model(pictures) == ModelShape("LlamaForCausalLM", 16, 32, "float16", None)


def test_shards_must_all_be_there(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "m")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidInputError) as caught:
        read_model(folder)
    assert caught.value.field == "model-2.safetensors"
    (folder / "model-2.safetensors").write_bytes(b"x")
    assert read_model(folder).attention_heads == 8


@pytest.mark.parametrize(
    ("damage", "field"),
    [
        ("rm config.json", "config.json"),
        ("rm tokenizer.json", "tokenizer.json"),
        ("rm model.safetensors", "model.safetensors"),
        ("code", "config.json"),
        ("list", "config.json"),
        ("link", "link"),
        ("heads", "config.json"),
    ],
)
def test_a_model_that_cannot_be_served_is_refused(tmp_path: Path, damage: str, field: str) -> None:
    changes: dict[str, object] = {}
    if damage == "code":
        changes = {"auto_map": {"AutoModel": "evil.Model"}}
    if damage == "heads":
        changes = {"num_attention_heads": 0}
    folder = make_checkpoint(tmp_path / "m", **changes)
    if damage.startswith("rm "):
        (folder / damage[3:]).unlink()
    if damage == "list":
        (folder / "config.json").write_text("[]")
    if damage == "link":
        (folder / "link").symlink_to("/etc/hostname")
    with pytest.raises(InvalidInputError) as caught:
        read_model(folder)
    assert caught.value.field == field


def test_an_adapter_says_its_rank(tmp_path: Path) -> None:
    assert read_adapter(make_adapter(tmp_path / "a", 12, "llama")) == AdapterShape(12, "llama")
    for name, rank in (("zero", 0), ("large", 257)):
        with pytest.raises(InvalidInputError, match="rank"):
            read_adapter(make_adapter(tmp_path / name, rank))
    other = make_adapter(tmp_path / "other")
    (other / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    with pytest.raises(InvalidInputError, match="IA3"):
        read_adapter(other)
    with pytest.raises(InvalidInputError, match="no adapter"):
        read_adapter(tmp_path / "nowhere")
