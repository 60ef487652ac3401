"""Penstock's policy: limits hold, guarantees come back within the bound, nobody within a guarantee is touched."""

from hypothesis import example, given

from penstock.scheduler.queueing import Cluster, Decisions, FairShare, Rules, Run, Share
from penstock.scheduler.queueing.victims import cheapest_eviction
from penstock.twin.queue.replay import Job, replay
from tests.support.gangs import Watch, gang, months, numbered

RULES = Rules(patience_s=20, bound_s=50, move_after_s=30, fresh_s=5, resume_s=3, rest_s=60)
SHARES = (Share("a", 4, 10), Share("b", 8), Share("b/x", 6, 9), Share("b/y", 2))
GUARANTEED = {"a": 4, "b": 8, "b/x": 6, "b/y": 2}
LIMIT = {"a": 10, "b": 12, "b/x": 9, "b/y": 12}
SIZES = (1, 2, 3, 4, 8)


def levels(queue: str) -> list[str]:
    return [queue.partition("/")[0], queue] if "/" in queue else [queue]


def watched(look: object, shares: tuple[Share, ...] = SHARES) -> Watch:
    return Watch(FairShare(Cluster(3, 4), shares, RULES), look)


@given(months(SIZES))
def test_limits_hold_and_everybody_ends(jobs: list[Job]) -> None:
    def look(watch: Watch, *_: object) -> None:
        assert all(watch.used(queue) <= limit for queue, limit in LIMIT.items())

    watch = watched(look)
    outcome = replay(jobs, watch)
    assert all(end_s >= 0 for end_s in outcome.end_s)
    assert all(outcome.wait_s(job_id) >= 0 for job_id in range(len(jobs)))


@given(months(SIZES))
def test_only_borrowers_are_taken_from_and_what_is_moved_goes_on_at_once(jobs: list[Job]) -> None:
    before: dict[int, Run] = {}

    def look(watch: Watch, made: Decisions, now_s: int) -> None:
        del now_s
        again = {run.gang.job_id for run in made.started}
        held = dict.fromkeys(GUARANTEED, 0)
        for run in before.values():
            for level in levels(run.gang.queue):
                held[level] += run.gang.gpus
        started = dict.fromkeys(GUARANTEED, 0)
        for run in made.started:
            for level in levels(run.gang.queue):
                started[level] += run.gang.gpus
        for run in made.stopped:
            if run.gang.job_id not in again:
                # Some level of it was above its guarantee, counting what this very look started there.
                above = [
                    level
                    for level in levels(run.gang.queue)
                    if held[level] + started[level] > GUARANTEED[level]
                ]
                assert above
        before.clear()
        before.update(watch.running)

    class Ending(Watch):
        def end(self, job_id: int, now_s: int) -> Run:
            before.pop(job_id, None)
            return super().end(job_id, now_s)

    replay(jobs, Ending(FairShare(Cluster(3, 4), SHARES, RULES), look))


@given(months((1,)))
def test_a_guarantee_is_back_within_the_bound(jobs: list[Job]) -> None:
    """Gangs of one GPU have every shape: whoever is within a guarantee and waits for the bound starts then."""

    def look(watch: Watch, _: Decisions, now_s: int) -> None:
        for job_id, since_s in watch.since_s.items():
            queue = watch.gangs[job_id].queue
            entitled = any(watch.used(level) < GUARANTEED[level] for level in levels(queue))
            assert not entitled or now_s - since_s < RULES.bound_s

    replay(jobs, watched(look, (Share("a", 4), Share("b", 8), Share("b/x", 6), Share("b/y", 2))))


# Helping one that is looked at later makes room for one that was looked at before.
LATE_ROOM = [
    *[(0, 1, "a", 0, 0)] * 4,
    (0, 2, "a", 146, 0),
    (0, 4, "a", 148, 0),
    (0, 4, "b/x", 148, 0),
    (50, 1, "a", 98, 0),
    (0, 1, "b/x", 98, 0),
    (47, 2, "a", 0, 0),
    (0, 2, "b/x", 2, 0),
    (0, 2, "b/x", 0, 0),
    (0, 1, "b/y", 0, 0),
]


@example(jobs=numbered(LATE_ROOM))
@given(months(SIZES))
def test_at_the_bound_a_gang_waits_only_if_nobody_it_may_stop_frees_its_shape(jobs: list[Job]) -> None:
    def look(watch: Watch, made: Decisions, now_s: int) -> None:
        del made
        policy = watch.policy
        assert isinstance(policy, FairShare)
        for job_id, since_s in watch.since_s.items():
            one = watch.gangs[job_id]
            if now_s - since_s < RULES.bound_s or one.gpus > policy.quotas.room(one.queue):
                continue
            if not any(watch.used(level) + one.gpus <= GUARANTEED[level] for level in levels(one.queue)):
                continue
            borrowed = {q: watch.used(q) - gpus for q, gpus in GUARANTEED.items()}

            def cost(run: Run, one: object = one, borrowed: dict[str, int] = borrowed) -> int | None:
                other = run.gang.queue
                small = all(run.gang.gpus <= borrowed[level] for level in levels(other))
                return (
                    1
                    if small and levels(other)[0] != levels(one.queue)[0] and run.started_s < now_s
                    else None
                )

            whole_tenant = watch.used(levels(one.queue)[0]) + one.gpus <= GUARANTEED[levels(one.queue)[0]]
            found = cheapest_eviction(policy.cluster, one.gpus, cost) if whole_tenant else None
            assert found is None or len(found.victims) > 1, "one borrower alone would have been enough"

    replay(jobs, watched(look))


@given(months(SIZES))
def test_the_same_month_gives_the_same_decisions(jobs: list[Job]) -> None:
    first, second = watched(lambda *_: None), watched(lambda *_: None)
    assert replay(jobs, first) == replay(jobs, second)
    assert first.started == second.started


def full(queue: str, checkpoint_s: int, shares: tuple[Share, ...]) -> FairShare:
    """Return a policy whose 3 nodes of 4 are full of gangs of one, started at 0."""
    policy = FairShare(Cluster(3, 4), shares, RULES)
    for job_id in range(12):
        policy.arrive(gang(job_id, 1, queue, 0, checkpoint_s), 0)
    assert len(policy.decide(0).started) == 12
    return policy


def test_reclaim_frees_one_whole_node_for_a_gang() -> None:
    policy = full("b/y", 600, (Share("a", 4), Share("b", 8)))
    policy.arrive(gang(50, 4, "a"), 100)
    assert policy.decide(100).stopped == []
    assert policy.wake_s == 120
    assert policy.decide(120).stopped == [], "nobody has just saved its work"
    made = policy.decide(150)
    assert [run.gang.job_id for run in made.started] == [50]
    assert len(made.stopped) == 4
    assert len({run.parts[0][0] for run in made.stopped}) == 1, "one node, not four"
    assert (policy.reclaims, policy.waiting) == (4, 4)


def test_borrowers_that_have_just_saved_go_before_the_bound_and_lose_nothing() -> None:
    policy = full("b/y", 60, (Share("a", 4), Share("b", 8)))
    policy.arrive(gang(50, 4, "a"), 100)
    made = policy.decide(122)  # two seconds after the second checkpoint
    assert len(made.stopped) == 4
    assert {run.unsaved_s(122) for run in made.stopped} == {2}
    assert {run.saved_s(122) for run in made.stopped} == {120}


def test_what_was_stopped_goes_on_from_its_checkpoint() -> None:
    policy = full("b/y", 60, (Share("a", 4), Share("b", 8)))
    policy.arrive(gang(50, 4, "a"), 100)
    policy.decide(122)
    policy.end(50, 200)
    again = policy.decide(200).started
    assert {(run.resume_s, run.done_s) for run in again} == {(RULES.resume_s, 120)}


def test_a_project_gets_its_guarantee_back_from_its_sibling_also_at_the_tenants_limit() -> None:
    shares = (Share("b", 8, 8), Share("b/x", 6), Share("b/y", 2))
    policy = FairShare(Cluster(3, 4), shares, RULES)
    for job_id in range(9):
        policy.arrive(gang(job_id, 1, "b/y", 0), 0)
    assert len(policy.decide(0).started) == 8, "the tenant's limit"
    policy.arrive(gang(50, 3, "b/x"), 10)
    made = policy.decide(60)
    assert [run.gang.job_id for run in made.started] == [50]
    assert len(made.stopped) == 3
    assert policy.quotas.used("b") == 8


def test_pieces_become_a_node_by_moving_whoever_has_just_saved() -> None:
    policy = FairShare(Cluster(2, 4), (), RULES)
    for job_id in range(8):
        policy.arrive(gang(job_id, 1, "a", 0, 60), 0)
    policy.decide(0)
    for job_id in (0, 1, 4, 5):  # two on each node
        policy.end(job_id, 10)
    policy.arrive(gang(50, 4, "a", 10), 10)
    assert policy.decide(50).started == [], "nobody has just saved"
    made = policy.decide(121)
    assert len(made.stopped) == 2
    assert sorted(run.gang.job_id for run in made.started) == sorted(
        [50, *(r.gang.job_id for r in made.stopped)]
    )
    assert (policy.moves, policy.waiting, policy.cluster.free) == (2, 0, 0)


def test_who_is_within_a_guarantee_starts_before_a_shorter_borrower() -> None:
    policy = full("b/x", 600, (Share("a", 4), Share("b", 8)))
    policy.arrive(gang(60, 1, "c"), 1)
    policy.arrive(gang(61, 1, "a"), 2)
    policy.end(0, 3)
    assert [run.gang.job_id for run in policy.decide(3).started] == [61]
    policy.end(1, 4)
    assert [run.gang.job_id for run in policy.decide(4).started] == [60]


def test_what_is_borrowed_is_shared_out() -> None:
    """Two queues of equal history: the one that has borrowed more waits."""
    policy = FairShare(Cluster(3, 4), (Share("a", 2), Share("b", 2)), RULES)
    for job_id in range(12):
        policy.arrive(gang(job_id, 1, "b" if job_id < 8 else "c", 0), 0)
    policy.decide(0)
    for job_id, queue in ((20, "b"), (21, "a"), (22, "a"), (23, "a")):
        policy.arrive(gang(job_id, 1, queue, 0), 1)
    started: list[int] = []
    for job_id in (8, 9, 10):
        policy.end(job_id, 2)
        started += [run.gang.job_id for run in policy.decide(2).started]
    assert started == [21, 22, 23], "a is within its share, then above it by half; b by four times"


def test_a_borrower_that_starves_is_made_room_for() -> None:
    rules = Rules(starve_s=1_000, move_after_s=10_000)
    policy = FairShare(Cluster(1, 4), (), rules)
    for job_id in range(4):
        policy.arrive(gang(job_id, 1, "b", 0), 0)
    policy.decide(0)
    policy.arrive(gang(50, 4, "b", 1), 1)
    policy.arrive(gang(4, 1, "b", 2), 2)
    policy.end(0, 500)
    assert [run.gang.job_id for run in policy.decide(500).started] == [4], "small ones pass"
    policy.arrive(gang(5, 1, "b", 501), 501)
    policy.end(1, 1_100)
    assert policy.decide(1_100).started == [], "after starve_s they stand back"
    for job_id in (2, 3, 4):
        policy.end(job_id, 1_200)
    assert [run.gang.job_id for run in policy.decide(1_200).started] == [50]


def test_at_a_limit_only_the_own_tenant_stands_back() -> None:
    policy = FairShare(Cluster(3, 4), (Share("b", 0, 4),), Rules(starve_s=1_000, move_after_s=10_000))
    for job_id in range(4):
        policy.arrive(gang(job_id, 1, "b", 0), 0)
    policy.decide(0)
    policy.arrive(gang(50, 4, "b", 1), 1)
    for job_id, queue in ((4, "b"), (5, "c")):
        policy.arrive(gang(job_id, 1, queue, 1_050), 1_050)
    policy.end(0, 1_100)
    assert [run.gang.job_id for run in policy.decide(1_100).started] == [5]


def test_borrowers_are_ordered_by_what_such_work_took_before_stops_included() -> None:
    """The quick queue's work took 40 s in two runs, the slow one's 300 s."""
    policy = FairShare(Cluster(1, 1), (Share("a", 1),), RULES)
    at_s = 0
    for job_id in range(3):
        policy.arrive(gang(job_id, 1, "quick", at_s, 10), at_s)
        policy.decide(at_s)
        policy.arrive(gang(10 + job_id, 1, "a", at_s), at_s)
        assert [run.gang.job_id for run in policy.decide(at_s + 30).stopped] == [job_id]
        policy.end(10 + job_id, at_s + 40)
        (again,) = policy.decide(at_s + 40).started
        assert (again.done_s, again.resume_s) == (30, 3)
        policy.end(job_id, at_s + 53)
        policy.arrive(gang(20 + job_id, 1, "slow", at_s), at_s + 60)
        policy.decide(at_s + 60)
        policy.end(20 + job_id, at_s + 360)
        at_s += 400
    for job_id, queue in ((30, "slow"), (31, "quick")):
        policy.arrive(gang(job_id, 1, queue, at_s), at_s)
    (first,) = policy.decide(at_s).started
    assert (first.gang.job_id, first.expected_s) == (31, 40)
