"""Shares as people read them: what covers what, what is borrowed and idle, and what is promised to nobody."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.share import Guarantee, Held, shares, unpromised


def test_what_runs_above_a_guarantee_is_borrowed_and_what_is_left_of_one_is_idle() -> None:
    guarantees = [
        Guarantee("a", None, "H100", 8),
        Guarantee("b", None, None, 4),
        Guarantee("a", "a1", "H100", 2),
    ]
    held = [
        Held("a", "a1", "H100", 3_000),
        Held("a", "a2", "H100", 7_500),
        Held("b", "b1", "A100", 1_000),
        Held("c", "c1", "H100", 2_000),
    ]
    found = {(one.tenant_id, one.project_id, one.device_class): one for one in shares(guarantees, held)}
    assert set(found) == {("a", None, "H100"), ("a", "a1", "H100"), ("b", None, None), ("c", None, "H100")}
    whole = found["a", None, "H100"]
    assert (whole.used_milli, whole.borrowed_milli, whole.idle_milli) == (10_500, 2_500, 0)
    assert found["a", "a1", "H100"].borrowed_milli == 1_000
    assert (found["b", None, None].used_milli, found["b", None, None].idle_milli) == (1_000, 3_000)
    assert (found["c", None, "H100"].guaranteed, found["c", None, "H100"].borrowed_milli) == (0, 2_000)


def test_what_is_promised_to_projects_is_promised_by_their_tenant_already() -> None:
    guarantees = [
        Guarantee("a", None, "H100", 6),
        Guarantee("a", "a1", "H100", 6),
        Guarantee("b", None, None, 4),
    ]
    assert unpromised({"H100": 8, "A100": 2}, guarantees) == {"H100": 2, "A100": 2}
    assert unpromised({"H100": 4}, guarantees) == {"H100": 0}


@given(
    st.lists(
        st.builds(Guarantee, st.sampled_from("ab"), st.none(), st.sampled_from(["x", "y"]), st.integers(0, 9))
    ),
    st.lists(
        st.builds(
            Held, st.sampled_from("abc"), st.just("p"), st.sampled_from(["x", "y"]), st.integers(1, 9_000)
        )
    ),
)
def test_no_use_is_lost_and_used_is_guaranteed_less_idle_plus_borrowed(
    guarantees: list[Guarantee], held: list[Held]
) -> None:
    found = shares(guarantees, held)
    assert sum(one.used_milli for one in found) == sum(one.milli for one in held)
    for one in found:
        assert one.used_milli == one.guaranteed * 1_000 - one.idle_milli + one.borrowed_milli
