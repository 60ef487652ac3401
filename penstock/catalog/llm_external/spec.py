"""The order form of kind ``llm_external`` and what an order of it asks for."""

from collections.abc import Mapping
from typing import Any

from penstock.catalog.base import Compiled, Known, Spec
from penstock.domain.claim import Ask
from penstock.domain.quota import Measure, dimensions_of
from penstock.drivers.openai_compatible.config import (
    SLOTS_MAX,
    URL_CHARACTERS_MAX,
    allowed_networks,
    check_url,
)

DRIVER = "openai_compatible"
URLS_MAX = 16
FORM: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "required": ["urls", "model"],
    "properties": {
        "urls": {
            "type": "array",
            "minItems": 1,
            "maxItems": URLS_MAX,
            "uniqueItems": True,
            "items": {"type": "string", "minLength": 9, "maxLength": URL_CHARACTERS_MAX},
            "title": "Addresses",
            "description": "https addresses of servers of OpenAI's API, up to and with /v1; requests are spread over them",
        },
        "model": {
            "type": "string",
            "minLength": 1,
            "maxLength": 128,
            "title": "Model there",
            "description": "the name that the servers know the model by; its prices are those of this name",
        },
        "secret": {
            "type": "string",
            "minLength": 1,
            "maxLength": 63,
            "title": "Secret",
            "description": "the name of a secret of the project that holds the servers' key; see `penstock secret put`",
        },
        "slots": {
            "type": "integer",
            "minimum": 0,
            "maximum": SLOTS_MAX,
            "default": 0,
            "title": "Requests at a time",
            "description": "for each server; more wait here. 0: the gateway's own bound",
        },
    },
}


def compile_order(spec: Spec, known: Known) -> Compiled:
    """Return what an order asks for: a place for each promise, which takes nothing of its node."""
    del known
    allowed = allowed_networks()
    for number, url in enumerate(spec["urls"]):
        check_url(url, allowed, f"spec.urls.{number}")
    return Compiled(
        (Ask(count=0, driver=DRIVER),) * len(spec["urls"]),
        dimensions_of({(Measure.SERVICES, None): 1}),
        priced_models=(spec["model"],),
    )
