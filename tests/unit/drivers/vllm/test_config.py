"""The config of a replica on vLLM: defaults, round trip, and what is refused."""

from typing import Any

import pytest

from penstock.base.errors import InvalidInputError
from penstock.drivers.vllm.config import Adapter, ReplicaConfig

GOOD: dict[str, Any] = {"model_dir": "/m", "served_model_name": "n", "devices": [3, 1]}


def test_defaults_and_the_way_back() -> None:
    parsed = ReplicaConfig.parse(GOOD)
    assert parsed == ReplicaConfig("/m", "n", (3, 1))
    full = ReplicaConfig("/m", "n", (0,), "H100", 512, fp8_cache=True, adapters=(Adapter("a", "/a"),))
    assert ReplicaConfig.parse(full.as_json()) == full


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model_dir": "m"}, "model_dir"),
        ({"model_dir": "/m\0"}, "model_dir"),
        ({"served_model_name": "a\nb"}, "served_model_name"),
        ({"devices": []}, "devices"),
        ({"devices": [1, 1]}, "devices"),
        ({"devices": [True]}, "devices"),
        ({"devices": "01"}, "devices"),
        ({"devices": list(range(17))}, "devices"),
        ({"context_tokens": -1}, "context_tokens"),
        ({"fp8_cache": 1}, "fp8_cache"),
        ({"adapters": [{"name": "a"}]}, "adapters"),
        ({"adapters": [{"name": "a", "folder": "/a"}, {"name": "a", "folder": "/b"}]}, "adapters"),
        ({"adapters": [{"name": "a", "folder": "a"}]}, "adapters"),
        ({"other": 1}, "other"),
    ],
)
def test_the_wrong_field_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        ReplicaConfig.parse({**GOOD, **change})
    assert caught.value.field == field
