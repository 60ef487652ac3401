"""The config of a replica: defaults, and what is refused."""

from typing import Any

import pytest

from penstock.base.errors import InvalidInputError
from penstock.drivers.ctranslate2.config import ReplicaConfig

CONFIG = ReplicaConfig("/models/x", "x", 2, "cpu")


def test_the_config_has_defaults_and_parses_what_it_writes() -> None:
    assert ReplicaConfig.parse({"model_dir": "/m", "served_model_name": "n"}) == ReplicaConfig(
        "/m", "n", 1, "auto"
    )
    written: Any = CONFIG.as_json()
    assert ReplicaConfig.parse(written) == CONFIG
    with pytest.raises(InvalidInputError) as caught:
        ReplicaConfig.parse({**written, "served_model_name": "a\nb"})
    assert caught.value.field == "served_model_name"
