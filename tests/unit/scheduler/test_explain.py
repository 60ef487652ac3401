"""Why here, why not yet: in words with the figures that decided."""

from dataclasses import replace

from penstock.base.units import BYTES_PER_GIB
from penstock.domain.claim import Ask
from penstock.scheduler import Explanation, Fleet, NoPlan, Plan, explain, place, place_many
from penstock.scheduler.plan import LIMIT_SENTENCES, Limit, binding_sentence
from tests.support.fleets import (
    CLASSES,
    node,
    racks,
)


def explained(fleet: Fleet, ask: Ask, replicas: int = 1) -> Explanation:
    return explain(fleet, ask, place(fleet, ask), replicas=replicas)


def changes(explanation: Explanation) -> list[dict[str, object]]:
    return [one.changes for one in explanation.counterfactuals]


def test_why_pending_names_the_largest_domain() -> None:
    fleet = racks(2)
    place_many(fleet, [Ask(66, "GB200", same_nvlink_domain=True), Ask(69, "GB200", same_nvlink_domain=True)])
    ask = Ask(8, "GB200", same_nvlink_domain=True)
    explanation = explained(fleet, ask)
    assert (
        explanation.headline == "9 GB200 are free, but the NVLink domain with most free can hold 6 of the 8"
    )
    assert explanation.binding == "nvlink_domain"
    assert changes(explanation)[:2] == [{"same_nvlink_domain": False, "domains_max": 2}, {"count": 6}]
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


def test_an_unknown_class_is_said_plainly() -> None:
    explanation = explained(Fleet(CLASSES), Ask(1, "H100"))
    assert explanation.headline == "this factory has no H100"
    assert explanation.binding == Limit.NOTHING_KNOWN
    assert explanation.counterfactuals == ()


def test_every_binding_has_a_sentence() -> None:
    assert all(binding_sentence(limit) == LIMIT_SENTENCES[limit] for limit in Limit)
