"""Every order that is offered instead succeeds, and one is offered whenever anything at all is free."""

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.limits import CANDIDATES_SHOWN_MAX, COUNTERFACTUALS_MAX
from penstock.base.units import BYTES_PER_GIB
from penstock.domain.claim import Ask
from penstock.scheduler import Explanation, Fleet, Plan, explain, place, place_many
from tests.support.fleets import Picture, add_racks, asks, can_be_placed, pictures, racks


def explained(fleet: Fleet, ask: Ask) -> Explanation:
    return explain(fleet, ask, place(fleet, ask))


def changes(explanation: Explanation) -> list[dict[str, object]]:
    return [one.changes for one in explanation.counterfactuals]


@settings(max_examples=100)
@given(pictures(), asks(), st.integers(0, 3))
def test_every_counterfactual_succeeds_and_there_is_one_if_anything_is_free(
    picture: Picture, ask: Ask, seed: int
) -> None:
    fleet = picture.fleet()
    before = fleet.digest()
    decision = place(fleet, ask, seed=seed)
    explanation = explain(fleet, ask, decision)
    assert fleet.digest() == before
    assert len(explanation.candidates) <= CANDIDATES_SHOWN_MAX
    assert len(explanation.counterfactuals) <= COUNTERFACTUALS_MAX
    json.dumps(explanation.to_json())
    json.dumps(decision.to_json())
    if isinstance(decision, Plan):
        return
    for one in explanation.counterfactuals:
        assert isinstance(place(fleet, one.ask), Plan)
        assert one.ask == _reordered(ask, one.changes)
        assert one.ask != ask
    smallest = Ask(
        count=min(ask.count, 1),
        node_memory_bytes=ask.node_memory_bytes if ask.count else 0,
        node_cpu_millis=ask.node_cpu_millis if ask.count else 0,
        driver=ask.driver,
        architecture=ask.architecture,
        avoid_nodes=ask.avoid_nodes,
    )
    least = [smallest, replace(smallest, slices=1)] if ask.count else []
    if any(can_be_placed(fleet, picture, one) for one in least):
        assert explanation.counterfactuals


def _reordered(ask: Ask, changed: dict[str, object]) -> Ask:
    """Return the ask that an order form with ``changed`` fields would compile to."""
    fields = dict(changed)
    if "memory_gib_min" in fields:
        fields["memory_bytes_min"] = int(str(fields.pop("memory_gib_min"))) * BYTES_PER_GIB
    return replace(ask, **fields)


def test_another_class_is_the_next_larger_one_that_has_room() -> None:
    fleet = racks(1, nodes=1, device_class="H100")
    for name in ("L40S", "H200", "GB200"):
        add_racks(fleet, 1, nodes=1, per_node=4, device_class=name, prefix=name)
    place_many(fleet, [Ask(4, "H100")])
    explanation = explained(fleet, Ask(2, "H100"))
    assert changes(explanation) == [{"device_class": "H200"}]
    assert (
        explanation.counterfactuals[0].sentence
        == "now as H200, which has 141 GiB per device where H100 has 80 GiB"
    )
    place_many(fleet, [Ask(4, "H200"), Ask(4, "GB200")])
    assert changes(explained(fleet, Ask(2, "H100"))) == [{"device_class": "L40S"}]


def test_a_slice_is_offered_where_no_whole_device_is_left() -> None:
    fleet = racks(1, nodes=1)
    place_many(fleet, [Ask(1, "GB200", slices=2) for _ in range(1)] + [Ask(3, "GB200")])
    assert changes(explained(fleet, Ask(1, "GB200"))) == [{"slices": 5}]


def test_less_memory_is_offered_in_whole_gib() -> None:
    explanation = explained(
        racks(1, nodes=1, device_class="H200"), Ask(1, memory_bytes_min=150 * BYTES_PER_GIB)
    )
    assert changes(explanation) == [{"memory_gib_min": 141}]


def test_several_fields_give_way_at_once_where_one_does_not_help() -> None:
    explanation = explained(racks(1, nodes=1), Ask(12, "H100", same_nvlink_domain=True))
    assert changes(explanation) == [{"count": 4, "device_class": None, "same_nvlink_domain": False}]
