"""Images that were made of machines: sent once, again after what may pass, never again after a refusal."""

import threading
from pathlib import Path

import pytest

from penstock.base import limits
from penstock.base.errors import ConflictError, PenstockError, UnavailableError
from penstock.drivers.libvirt.sending import Sender
from penstock.drivers.libvirt.store import MachineStore, Record

MACHINE = "alc_one"


class _Factory:
    """Takes images; ``answers`` are raised first, one a try."""

    def __init__(self, *answers: PenstockError) -> None:
        self.answers = list(answers)
        self.tried: list[str] = []
        self.taken: dict[str, bytes] = {}
        self.done = threading.Event()

    def send(self, image_id: str, file: Path) -> None:
        self.tried.append(image_id)
        if self.answers:
            answer = self.answers.pop(0)
            if not isinstance(answer, UnavailableError):
                self.done.set()
            raise answer
        self.taken[image_id] = file.read_bytes()
        self.done.set()

    def fetch(self, image_id: str, target: Path) -> None:
        raise AssertionError((image_id, target))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MachineStore:
    monkeypatch.setattr(limits, "VM_RETRY_SECONDS", 0.01)
    made = MachineStore(tmp_path, _Factory())
    made.write(MACHINE, Record(1, exports={"img_one": 3, "img_two": 3}))
    for image_id in ("img_one", "img_two"):
        made.export_file(MACHINE, image_id).write_bytes(b"all")
    return made


def test_what_may_pass_is_tried_again_and_what_was_sent_is_not(store: MachineStore) -> None:
    factory = _Factory(UnavailableError("the factory is away"))
    sender = Sender(store, factory)
    sender.want(MACHINE, ["img_one"])
    assert factory.done.wait(30)
    factory.done.clear()
    sender.want(MACHINE, ["img_one", "img_two"])
    assert factory.done.wait(30)
    sender.close()
    assert factory.tried == ["img_one", "img_one", "img_two"]
    assert factory.taken == {"img_one": b"all", "img_two": b"all"}


def test_a_refusal_ends_it_and_what_is_no_longer_wanted_is_not_sent(store: MachineStore) -> None:
    factory = _Factory(ConflictError("it has it already"))
    sender = Sender(store, factory)
    sender.want(MACHINE, ["img_gone", "img_one"])
    assert factory.done.wait(30)
    sender.want(MACHINE, ["img_one"])
    sender.close()
    assert (factory.tried, factory.taken) == (["img_one"], {})


def test_without_a_factory_nothing_is_sent(store: MachineStore) -> None:
    before = set(threading.enumerate())
    sender = Sender(store, None)
    sender.want(MACHINE, ["img_one"])
    sender.close()
    assert set(threading.enumerate()) <= before
