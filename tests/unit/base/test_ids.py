"""Ids: prefixed, unique, ordered by time, and recognisable."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.ids import PREFIXES, is_id, new_id

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
instants = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9998, 1, 1)).map(  # noqa: DTZ001 - made aware below
    lambda naive: naive.replace(tzinfo=UTC)
)
randomness = st.binary(min_size=10, max_size=10)


def test_no_two_nouns_share_a_prefix() -> None:
    assert len(set(PREFIXES.values())) == len(PREFIXES)
    assert all(len(prefix) == 3 and prefix.isalpha() and prefix.islower() for prefix in PREFIXES.values())


@given(st.sampled_from(sorted(PREFIXES)), instants, randomness)
def test_an_id_is_of_its_noun_and_of_no_other(noun: str, now: datetime, entropy: bytes) -> None:
    made = new_id(noun, now, lambda n: entropy[:n])
    assert len(made) == 30
    assert [other for other in PREFIXES if is_id(made, other)] == [noun]


@given(instants, instants, randomness, randomness)
def test_a_later_millisecond_sorts_later_whatever_the_randomness(
    a: datetime, b: datetime, entropy_a: bytes, entropy_b: bytes
) -> None:
    early, late = sorted([a, b])
    if late - early < timedelta(milliseconds=1):
        late = early + timedelta(milliseconds=1)
    assert new_id("service", early, lambda _: entropy_a) < new_id("service", late, lambda _: entropy_b)


@given(st.lists(randomness, min_size=2, max_size=20, unique=True))
def test_different_randomness_gives_different_ids(draws: list[bytes]) -> None:
    assert len({new_id("device", NOW, lambda _, d=draw: d) for draw in draws}) == len(draws)


def test_the_layout_is_48_bits_of_milliseconds_then_80_random_bits_in_crockford_base_32() -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert new_id("service", epoch, lambda n: b"\x00" * n) == "svc_" + "0" * 26
    assert new_id("service", epoch, lambda n: b"\xff" * n) == "svc_" + "0" * 10 + "z" * 16
    # 1469918176385 ms is "01ARYZ6S41", the example of the ULID specification.
    ulid_example = epoch + timedelta(milliseconds=1_469_918_176_385)
    assert new_id("service", ulid_example, lambda n: b"\x00" * n) == "svc_01aryz6s41" + "0" * 16


def test_default_randomness_does_not_repeat() -> None:
    assert len({new_id("service", NOW) for _ in range(1_000)}) == 1_000


def test_ids_of_one_process_rise_within_a_millisecond_and_lie_far_apart() -> None:
    made = [new_id("service", NOW) for _ in range(1_000)]
    assert made == sorted(made)
    assert all(a[:-6] != b[:-6] for a, b in pairwise(made)), "the next one is not to be guessed"
    assert {one[:14] for one in made} == {made[0][:14]}, "still of that millisecond"
    assert new_id("service", NOW - timedelta(milliseconds=1)) < made[0]


def test_ids_of_many_threads_differ_and_rise_in_each() -> None:
    def many(_: int) -> list[str]:
        return [new_id("service", NOW) for _ in range(500)]

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(many, range(4)))
    assert all(one == sorted(one) for one in made)
    assert len({each for one in made for each in one}) == 2_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "svc_",
        "svc_" + "0" * 25,
        "svc_" + "0" * 27,
        "svc_" + "0" * 25 + "u",
        "svc_" + "0" * 25 + "I",
        "svc_" + "0" * 26 + "\n",
        "SVC_" + "0" * 26,
        "dev_" + "0" * 26,
    ],
)
def test_what_is_no_service_id_is_not_taken_for_one(text: str) -> None:
    assert not is_id(text, "service")


def test_an_unknown_noun_is_refused() -> None:
    with pytest.raises(KeyError):
        new_id("unicorn", NOW)
