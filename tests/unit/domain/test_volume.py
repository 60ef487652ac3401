"""What a volume is, of what its nodes said."""

from dataclasses import replace

import pytest

from penstock.domain.volume import VOLUME_STATE_SENTENCES, Seen, VolumeState, key_purpose, state_of

FREE = Seen("present", has_machine=False, detaching=False, plugged=False, problem=None)
HELD = replace(FREE, has_machine=True)


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (FREE, VolumeState.AVAILABLE),
        (HELD, VolumeState.ATTACHING),
        (replace(HELD, plugged=True), VolumeState.ATTACHED),
        (replace(HELD, plugged=True, detaching=True), VolumeState.DETACHING),
        (replace(HELD, plugged=True, problem="the storage does not answer"), VolumeState.DEGRADED),
        (replace(FREE, wanted="deleted", problem="it does not answer"), VolumeState.DELETING),
    ],
)
def test_a_volume_is_one_thing(seen: Seen, state: VolumeState) -> None:
    assert state_of(seen) is state
    assert VOLUME_STATE_SENTENCES[state]


def test_a_key_opens_one_volume() -> None:
    assert key_purpose("vol_1") != key_purpose("vol_2")
