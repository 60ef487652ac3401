"""What vLLM is started with: by class of device, by model, by adapters; and only what vLLM knows."""

import pytest

from penstock.base.errors import InvalidInputError
from penstock.drivers.vllm import arguments
from penstock.drivers.vllm.checkpoint import AdapterShape, ModelShape
from penstock.drivers.vllm.config import Adapter, ReplicaConfig
from tests.support.simulated_vllm.arguments import parser

MODEL = ModelShape("LlamaForCausalLM", 32, 8_192, "bfloat16", None)


def parsed(config: ReplicaConfig, model: ModelShape = MODEL, *shapes: AdapterShape) -> dict[str, object]:
    """Return what vLLM's own parser makes of the command."""
    line = arguments.command("vllm", 8_123, config, model, shapes)
    return vars(parser().parse_args(line[1:]))


def test_a_model_over_four_devices() -> None:
    found = parsed(ReplicaConfig("/m", "chat", (0, 1, 2, 3), "H100", 4_096, fp8_cache=True))
    expected = {
        "model_tag": "/m",
        "host": "127.0.0.1",
        "port": 8_123,
        "served_model_name": ["chat"],
        "tensor_parallel_size": 4,
        "gpu_memory_utilization": 0.9,
        "dtype": "auto",
        "max_model_len": 4_096,
        "kv_cache_dtype": "fp8",
        "quantization": None,
        "enable_lora": False,
    }
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("device_class", "dtype", "share"),
    [("T4", "half", 0.9), ("H200", "auto", 0.92), ("L40S", "auto", 0.88), ("never heard of", "auto", 0.9)],
)
def test_the_class_of_device_decides(device_class: str, dtype: str, share: float) -> None:
    found = parsed(ReplicaConfig("/m", "chat", (0,), device_class))
    assert (found["dtype"], found["gpu_memory_utilization"]) == (dtype, share)


@pytest.mark.parametrize(
    ("method", "named"),
    [("fp8", "fp8"), ("compressed-tensors", "compressed-tensors"), ("awq", None), (None, None)],
)
def test_quantisation_comes_from_the_model(method: str | None, named: str | None) -> None:
    model = ModelShape("LlamaForCausalLM", 32, 8_192, "float16", method)
    assert parsed(ReplicaConfig("/m", "chat", (0,)), model)["quantization"] == named


def test_adapters_get_a_rank_that_vllm_has_kernels_for() -> None:
    adapters = (Adapter("sql", "/a/sql"), Adapter("law", "/a/law"))
    found = parsed(
        ReplicaConfig("/m", "chat", (0,), adapters=adapters), MODEL, AdapterShape(12, ""), AdapterShape(8, "")
    )
    assert found["enable_lora"] is True
    assert (found["max_loras"], found["max_lora_rank"]) == (2, "16")
    assert found["lora_modules"] == ["sql=/a/sql", "law=/a/law"]


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (ReplicaConfig("/m", "c", (0, 1, 2)), "devices"),
        (ReplicaConfig("/m", "c", (0,), context_tokens=8_193), "context_tokens"),
        (ReplicaConfig("/m", "c", (0,), "A100", fp8_cache=True), "fp8_cache"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(config: ReplicaConfig, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        arguments.check(config, MODEL)
    assert caught.value.field == field


def test_the_engine_sees_its_devices_and_none_of_our_settings() -> None:
    inherited = {"PATH": "/bin", "PENSTOCK_DATABASE_URL": "secret", "CUDA_VISIBLE_DEVICES": "7"}
    found = arguments.environment(ReplicaConfig("/m", "c", (2, 5), "H100"), inherited)
    assert (found["CUDA_VISIBLE_DEVICES"], found["CUDA_DEVICE_ORDER"]) == ("2,5", "PCI_BUS_ID")
    assert found["PATH"] == "/bin"
    assert not any(name.startswith("PENSTOCK") for name in found)
    assert found["HF_HUB_OFFLINE"] == "1"
    amd = arguments.environment(ReplicaConfig("/m", "c", (1,), "MI300X"), {})
    assert (amd["HIP_VISIBLE_DEVICES"], amd["VLLM_ROCM_USE_AITER"]) == ("1", "1")
