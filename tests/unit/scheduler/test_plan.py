"""A decision is kept as JSON, and every limit has words."""

import json

from penstock.domain.claim import Ask, Refusal
from penstock.scheduler import NoPlan, place
from penstock.scheduler.plan import LIMIT_SENTENCES, Limit, binding_sentence
from tests.support.fleets import racks


def test_a_plan_as_json_names_its_snapshot_grants_and_reasons() -> None:
    fleet = racks(1, nodes=1)
    kept = json.loads(json.dumps(place(fleet, Ask(2, "GB200", node_cpu_millis=5), seed=3).to_json()))
    assert kept["snapshot"] == fleet.digest()
    assert kept["grants"][1] == {
        "node": "r0-n0",
        "device": "r0-n0-d1",
        "mask": 127,
        "node_memory_bytes": 0,
        "node_cpu_millis": 5,
    }
    assert kept["chosen"] == [
        {
            "node": "r0-n0",
            "nvlink_domain": "r0",
            "devices": 2,
            "why": "4 of 4 devices were wholly free here, 4 of 4 in its NVLink domain",
            "numa_nodes": [],
        }
    ]
    assert [reason["code"] for reason in kept["reasons"]] == ["few_nodes", "least_loss", "begun_first"]
    assert (kept["placed"], kept["seed"], kept["device_class"]) == (True, 3, "GB200")


def test_no_plan_as_json_says_what_binds() -> None:
    decision = place(racks(1, nodes=1), Ask(1, "H100"))
    assert isinstance(decision, NoPlan)
    kept = json.loads(json.dumps(decision.to_json()))
    assert kept["binding"] == "device_class"
    assert kept["binding_sentence"] == binding_sentence(Refusal.DEVICE_CLASS)
    assert kept["rejected"] == {"device_class": 4}


def test_every_limit_has_a_sentence() -> None:
    assert set(LIMIT_SENTENCES) == set(Limit)
