"""Offsets of a console count a machine's whole life, also when its logs are turned."""

from pathlib import Path

from penstock.drivers.libvirt.console import Consoles
from penstock.drivers.libvirt.store import MachineStore


class _None:
    def fetch(self, image_id: str, target: Path) -> None:
        raise AssertionError(image_id, target)


def _store(folder: Path) -> tuple[MachineStore, Path]:
    store = MachineStore(folder, _None())
    log = store.places("one").console
    log.parent.mkdir()
    return store, log


def test_nothing_yet(tmp_path: Path) -> None:
    store, _ = _store(tmp_path)
    assert Consoles(store).read("one", 0, 10) == (0, b"")


def test_pieces_follow_each_other(tmp_path: Path) -> None:
    store, log = _store(tmp_path)
    log.write_bytes(b"0123456789")
    console = Consoles(store)
    assert console.read("one", 0, 4) == (0, b"0123")
    assert console.read("one", 4, 100) == (4, b"456789")
    assert console.read("one", 10, 100) == (10, b"")


def test_a_turned_log_goes_on_where_it_was(tmp_path: Path) -> None:
    store, log = _store(tmp_path)
    console = Consoles(store)
    log.write_bytes(b"aaaa")
    assert console.read("one", 0, 100) == (0, b"aaaa")
    log.write_bytes(b"aaaabb")
    log.rename(log.with_name("console.log.0"))
    log.write_bytes(b"cc")
    assert Consoles(store).read("one", 4, 100) == (4, b"bbcc")
    assert console.read("one", 0, 5) == (0, b"aaaab")


def test_what_was_turned_away_is_a_gap(tmp_path: Path) -> None:
    store, log = _store(tmp_path)
    console = Consoles(store)
    log.write_bytes(b"aaaa")
    console.read("one", 0, 100)
    older = log.with_name("console.log.0")
    log.rename(older)
    log.write_bytes(b"bbbb")
    console.read("one", 4, 100)
    older.unlink()
    assert console.read("one", 0, 100) == (4, b"bbbb")
