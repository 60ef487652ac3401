"""The places that were not taken are shown closest first, each with why it lost."""

from dataclasses import replace

from penstock.base.limits import CANDIDATES_SHOWN_MAX
from penstock.domain.claim import Ask
from penstock.scheduler import Explanation, Fleet, explain, place, place_many
from penstock.scheduler.candidates import losers
from tests.support.fleets import CLASSES, device, node, racks


def explained(fleet: Fleet, ask: Ask) -> Explanation:
    return explain(fleet, ask, place(fleet, ask))


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
    fleet.upsert_devices([device("e", "good", used_mask=1)])
    explanation = explained(fleet, Ask(1, "H100"))
    lost = {one.node: one.lost for one in explanation.candidates}
    assert explanation.headline == "1 x H100 on good"
    assert lost == {"full": "less_tight", "cordoned": "node_not_schedulable"}


def test_no_more_are_shown_than_a_person_reads() -> None:
    fleet = racks(3)
    assert len(losers(fleet, Ask(1, "GB200"), None)) == CANDIDATES_SHOWN_MAX
    assert len(losers(fleet, Ask(0), None)) == CANDIDATES_SHOWN_MAX


def test_nodes_for_a_share_say_what_they_lack() -> None:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes([node("free"), node("other", drivers=frozenset({"x"})), node("failed")])
    ask = Ask(0, avoid_nodes=frozenset({"failed"}))
    lost = {one.node: one.lost for one in losers(fleet, ask, None)}
    assert lost == {"free": "less_tight", "other": "driver_missing", "failed": "node_avoided"}
    again = losers(fleet, replace(ask, avoid_nodes=frozenset()), None)
    assert [one.to_json()["lost"] for one in again] == ["less_tight", "less_tight", "driver_missing"]
