"""A replica starts from the node's copy, waits with words while it comes, and a damaged copy is replaced."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.base.clock import SystemClock
from penstock.base.errors import UnavailableError
from penstock.base.ids import new_id
from penstock.domain.weights import FETCHING
from penstock.drivers.base import Observed, Phase, Wanted
from penstock.drivers.ctranslate2.checkpoint import demo_model_dir
from penstock.drivers.ctranslate2.driver import CTranslate2Driver
from penstock.drivers.processes.replica import Launch, Replica
from penstock.drivers.weights.cache import WeightsCache
from penstock.drivers.weights.wanted import WantedWeights, as_json
from tests.support import waiting
from tests.support.waiting import until
from tests.support.weights import HeldSource

CLOCK = SystemClock()


class Recording(CTranslate2Driver):
    """Starts a process that does nothing in place of an engine, and remembers from where."""

    launched: str = ""

    def launch(self, replica: Replica, config: object) -> Launch:
        real = super().launch(replica, config)
        self.launched = real.command[real.command.index("--model-dir") + 1]
        return Launch(["/bin/sleep", "60"], {})


@pytest.fixture
def source() -> HeldSource:
    return HeldSource()


@pytest.fixture
def wanted(source: HeldSource) -> WantedWeights:
    files = {path.name: path.read_bytes() for path in demo_model_dir().iterdir()}
    return source.add(files, "/models/own")


def ask(wanted: WantedWeights) -> Wanted:
    config = {"model_dir": wanted.folder, "served_model_name": "own", "weights": as_json([wanted])}
    return Wanted(new_id("allocation", CLOCK.now()), 1, config)


def poll(driver: Recording, wish: Wanted, done: Callable[[Observed], bool]) -> Observed:
    return waiting.poll(lambda: driver.ensure(wish), done)


def gone(driver: Recording, wish: Wanted) -> bool:
    return until(lambda: driver.remove(wish.allocation_id).phase is Phase.ABSENT)


def test_a_replica_waits_for_its_weights_and_starts_from_the_copy(
    tmp_path: Path, source: HeldSource, wanted: WantedWeights
) -> None:
    cache = WeightsCache(tmp_path / "weights", source, CLOCK)
    driver = Recording(tmp_path / "replicas", CLOCK, weights=cache)
    wish = ask(wanted)
    listing = source.artefacts.pop(wanted.sha256)
    seen = poll(driver, wish, lambda one: "trying again" in (one.message or ""))
    assert (seen.phase, seen.code) == (Phase.PENDING, FETCHING)
    source.artefacts[wanted.sha256] = listing
    shutil.rmtree(tmp_path / "weights", ignore_errors=True)
    fresh = Recording(tmp_path / "replicas", CLOCK, weights=WeightsCache(tmp_path / "weights", source, CLOCK))
    assert poll(fresh, wish, lambda one: one.phase is not Phase.PENDING).phase is Phase.STARTED
    assert fresh.launched == str(tmp_path / "weights" / wanted.sha256)
    assert gone(fresh, wish)


def test_a_copy_that_a_start_finds_damaged_is_fetched_again(
    tmp_path: Path, source: HeldSource, wanted: WantedWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = WeightsCache(tmp_path / "weights", source, CLOCK)
    driver = Recording(tmp_path / "replicas", CLOCK, weights=cache)
    first = ask(wanted)
    assert poll(driver, first, lambda one: one.phase is Phase.STARTED)
    assert gone(driver, first)
    model = tmp_path / "weights" / wanted.sha256 / "model.bin"
    data = bytearray(model.read_bytes())
    data[1_000] ^= 1
    noted = cache._store.whole
    model.write_bytes(data)
    monkeypatch.setattr(cache._store, "whole", lambda _: model.parent)
    monkeypatch.setattr(
        cache, "doubt", lambda digest: monkeypatch.setattr(cache._store, "whole", noted) or bool(digest)
    )
    source.asked.clear()
    second = ask(wanted)
    assert poll(driver, second, lambda one: one.phase is Phase.STARTED)
    assert source.asked == [("model.bin", 0)]
    assert gone(driver, second)


def test_what_engines_run_from_is_not_given_up_and_what_cannot_come_fails(
    tmp_path: Path, source: HeldSource, wanted: WantedWeights
) -> None:
    cache = WeightsCache(tmp_path / "weights", source, CLOCK)
    driver = Recording(tmp_path / "replicas", CLOCK, weights=cache)
    wish = ask(wanted)
    poll(driver, wish, lambda one: one.phase is Phase.STARTED)
    assert not cache.drop(wanted.sha256)
    assert gone(driver, wish)
    assert cache.drop(wanted.sha256)
    small = WeightsCache(tmp_path / "small", source, CLOCK, bytes_max=1_000)
    other = Recording(tmp_path / "others", CLOCK, weights=small)
    seen = poll(other, ask(wanted), lambda one: one.phase is Phase.FAILED)
    assert seen.code == "weights_too_large"
    assert "--weights-gib" in str(seen.message)
    source.between = lambda: (_ for _ in ()).throw(UnavailableError("gone"))
