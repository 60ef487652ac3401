import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.limits import CANDIDATES_SHOWN_MAX, COUNTERFACTUALS_MAX
from penstock.base.units import BYTES_PER_GIB
from penstock.domain.claim import Ask
from penstock.scheduler import Explanation, Fleet, NoPlan, Plan, explain, place, place_many
from penstock.scheduler.plan import LIMIT_SENTENCES, Limit, binding_sentence
from tests.support.fleets import (
    CLASSES,
    Picture,
    add_racks,
    asks,
    can_be_placed,
    device,
    node,
    pictures,
    racks,
)


def explained(fleet: Fleet, ask: Ask, replicas: int = 1) -> Explanation:
    return explain(fleet, ask, place(fleet, ask), replicas=replicas)


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
    return replace(ask, **fields)  # type: ignore[arg-type]


def test_why_pending_names_the_largest_domain() -> None:
    fleet = racks(2)
    place_many(fleet, [Ask(66, "GB200", same_nvlink_domain=True), Ask(69, "GB200", same_nvlink_domain=True)])
    ask = Ask(8, "GB200", same_nvlink_domain=True)
    explanation = explained(fleet, ask)
    assert (
        explanation.headline == "9 GB200 are free, but the NVLink domain with most free can hold 6 of the 8"
    )
    assert explanation.binding == "nvlink_domain"
    assert changes(explanation)[:2] == [{"same_nvlink_domain": False}, {"count": 6}]
    assert [(one.nvlink_domain, one.holds, one.lost) for one in explanation.candidates] == [
        ("r0", 6, "too_few"),
        ("r1", 3, "too_few"),
    ]


def test_why_pending_counts_what_is_free_and_why_the_rest_is_not() -> None:
    fleet = racks(1, nodes=2)
    place_many(fleet, [Ask(6, "GB200")])
    explanation = explained(fleet, Ask(4, "GB200"))
    assert explanation.headline == (
        "2 of the 4 GB200 it needs are free; most others are out because the device is in use (6 devices)"
    )
    assert explanation.reasons == ("6 devices: the device is in use",)
    assert {"count": 2} in changes(explanation)


def test_what_never_fits_says_how_much_could() -> None:
    explanation = explained(racks(2), Ask(73, "GB200", same_nvlink_domain=True))
    assert explanation.never_fits
    assert explanation.headline == "no NVLink domain here could ever hold 73 GB200: the largest holds 72"
    explanation = explained(racks(2), Ask(145, "GB200"))
    assert explanation.headline == "no site here could ever hold 145 GB200 of one class: the most is 144"


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


def test_room_that_came_free_since_is_said() -> None:
    fleet = racks(1, nodes=1)
    (held,) = place_many(fleet, [Ask(4, "GB200")])
    assert isinstance(held, Plan)
    late = place(fleet, Ask(1, "GB200"))
    fleet.revert(held.grants)
    explanation = explain(fleet, Ask(1, "GB200"), late)
    assert changes(explanation) == [{}]
    assert explanation.snapshot != explanation.explained_on


def test_fewer_replicas_or_a_smaller_model() -> None:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes([node("n1"), node("n2", memory_used_bytes=500 * BYTES_PER_GIB)])
    share = Ask(0, node_memory_bytes=200 * BYTES_PER_GIB, node_cpu_millis=1_000)
    full = NoPlan
    decision = place_many(fleet, [share] * 3)[2]
    assert isinstance(decision, full)
    fleet.upsert_nodes([node("n1")])
    explanation = explain(fleet, share, decision, replicas=3)
    assert changes(explanation) == [{"replicas": 2}]
    assert explanation.counterfactuals[0].orderable
    large = replace(share, node_memory_bytes=600 * BYTES_PER_GIB)
    explanation = explained(fleet, large)
    assert explanation.never_fits
    assert "no node here could ever give 600 GiB of memory" in explanation.headline
    assert not explanation.counterfactuals[0].orderable
    assert changes(explanation)[0]["node_memory_bytes"] == 512 * BYTES_PER_GIB
    assert explanation.candidates[0].sentence == (
        "the node has too little free memory: 512 GiB of the 600 GiB needed"
    )


def test_why_here_says_who_came_next() -> None:
    fleet = racks(2)
    place_many(fleet, [Ask(1, "GB200")])
    ask = Ask(4, "GB200", same_nvlink_domain=True)
    explanation = explained(fleet, ask)
    assert explanation.placed
    assert explanation.headline == "4 x GB200 on r0-n1, NVLink domain r0"
    assert [(one.nvlink_domain, one.lost) for one in explanation.candidates] == [("r1", "less_tight")]
    assert "the tightest NVLink domain" in " ".join(explanation.reasons)


def test_why_here_names_nodes_that_were_refused() -> None:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes([node("good"), node("cordoned", schedulable=False), node("full")])
    fleet.upsert_devices(
        [device("a", "good"), device("b", "cordoned"), device("c", "full", used_mask=1), device("d", "full")]
    )
    explanation = explained(fleet, Ask(1, "H100"))
    lost = {one.node: one.lost for one in explanation.candidates}
    assert explanation.headline == "1 x H100 on good"
    assert lost == {"full": "less_tight", "cordoned": "node_not_schedulable"}


def test_an_unknown_class_is_said_plainly() -> None:
    explanation = explained(Fleet(CLASSES), Ask(1, "H100"))
    assert explanation.headline == "this factory has no H100"
    assert explanation.binding == Limit.NOTHING_KNOWN
    assert explanation.counterfactuals == ()


def test_every_binding_has_a_sentence() -> None:
    assert all(binding_sentence(limit) == LIMIT_SENTENCES[limit] for limit in Limit)
