"""Signals shorten waits: none is lost between look and wait, and they reach other processes over the database."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import penstock
from penstock.base.errors import UnavailableError
from penstock.store.wakeups import TOPICS, Wakeups
from tests.fixtures.factory import plain
from tests.support.listeners import listening
from tests.support.waiting import until

LONG, SHORT = 20.0, 0.05


@pytest.fixture
def wakeups() -> Iterator[Wakeups]:
    one = Wakeups()
    yield one
    one.stop()


def test_a_signal_between_look_and_wait_is_heard(wakeups: Wakeups) -> None:
    seen = wakeups.count("service")
    wakeups.signal("service")
    assert wakeups.wait("service", seen, LONG)


def test_an_old_signal_and_one_of_another_topic_wake_nobody(wakeups: Wakeups) -> None:
    wakeups.signal("service")
    seen = wakeups.count("service")
    wakeups.signal("event")
    assert not wakeups.wait("service", seen, SHORT)


def test_signals_within_a_transaction_are_held_back_until_it_is_over(wakeups: Wakeups) -> None:
    before = wakeups.count("allocation"), wakeups.count("report")
    with wakeups.held():
        wakeups.signal("allocation")
        wakeups.signal("allocation")
        assert (wakeups.count("allocation"), wakeups.count("report")) == before
        other = threading.Thread(target=wakeups.signal, args=("event",))
        other.start()
        other.join()
        assert wakeups.count("event") == 1, "only what this thread says is held back"
    assert (wakeups.count("allocation"), wakeups.count("report")) == (before[0] + 1, before[1] + 1)
    with pytest.raises(RuntimeError):
        _fail_after_a_signal(wakeups)
    assert wakeups.count("allocation") == before[0] + 2, "an unneeded wake-up is better than a lost one"
    wakeups.signal("allocation")
    assert wakeups.count("allocation") == before[0] + 3


def _fail_after_a_signal(wakeups: Wakeups) -> None:
    with wakeups.held():
        wakeups.signal("allocation")
        raise RuntimeError


def test_everybody_who_waits_is_woken_by_one_signal(wakeups: Wakeups) -> None:
    heard: list[bool] = []
    waiters = [
        threading.Thread(target=lambda: heard.append(wakeups.wait("event", 0, LONG))) for _ in range(3)
    ]
    for waiter in waiters:
        waiter.start()
    wakeups.signal("event")
    for waiter in waiters:
        waiter.join(LONG)
    assert heard == [True, True, True]


def test_a_process_that_stops_holds_nobody_up(wakeups: Wakeups) -> None:
    told = threading.Event()

    def wait() -> None:
        with pytest.raises(UnavailableError, match="stopping"):
            wakeups.wait("service", 0, LONG)
        told.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    wakeups.stop()
    assert told.wait(LONG)
    waiter.join(LONG)
    with pytest.raises(UnavailableError):
        wakeups.wait("service", 0, LONG)


def until_listening(url: str, count: int) -> None:
    until(lambda: len(listening(url)) == count, f"{count} listen", 60)


@pytest.fixture
def pair(database_url: str) -> Iterator[tuple[Wakeups, Wakeups]]:
    both = (Wakeups(), Wakeups())
    try:
        for one in both:
            one.share(plain(database_url))
        until_listening(database_url, 2)
        yield both
    finally:  # who goes on listening connects again and again, and the database cannot be given back
        stoppers = [threading.Thread(target=one.stop) for one in both]
        for stopper in stoppers:
            stopper.start()
        for stopper in stoppers:
            stopper.join(LONG)


def test_a_signal_reaches_the_other_process_and_comes_back_to_nobody(pair: tuple[Wakeups, Wakeups]) -> None:
    here, there = pair
    here.signal("allocation")
    assert there.wait("allocation", 0, LONG)
    there.signal("event")
    assert here.wait("event", 0, LONG)  # so the first one has long been delivered to us, too
    assert here.count("allocation") == 1
    assert there.count("service") == 0


def test_a_topic_of_another_version_is_ignored(pair: tuple[Wakeups, Wakeups], database_url: str) -> None:
    here, _ = pair
    with psycopg.connect(plain(database_url), autocommit=True) as connection:
        connection.execute("SELECT pg_notify('penstock', 'a_topic_of_tomorrow')")
        connection.execute("SELECT pg_notify('penstock', 'service')")
    assert here.wait("service", 0, LONG)


def test_a_lost_connection_is_made_again(pair: tuple[Wakeups, Wakeups], database_url: str) -> None:
    here, there = pair
    before = listening(database_url)
    with psycopg.connect(plain(database_url), autocommit=True) as connection:
        for pid in before:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    until_listening(database_url, 2)
    assert set(listening(database_url)).isdisjoint(before)
    assert there.wait("service", 0, LONG), "it looks at everything once, for what it did not hear meanwhile"
    seen = there.count("gateway")
    here.signal("gateway")
    assert there.wait("gateway", seen, LONG)


def test_every_topic_that_the_package_speaks_of_exists() -> None:
    sources = [path.read_text() for path in Path(penstock.__file__).parent.rglob("*.py")]
    signalled = {topic for text in sources for topic in re.findall(r'\.signal\("(\w+)"\)', text)}
    looped = {
        topic for text in sources for topic in re.findall(r'self\._loop\(\s*"\w+",\s*[\w.]+,\s*"(\w+)"', text)
    }
    assert len(signalled) > 5
    assert len(looped) > 5
    assert signalled | looped <= set(TOPICS)
