"""Images are fetched once and only kept if they are what the catalogue says; records survive their process."""

import hashlib
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.base import limits
from penstock.base.errors import InvalidInputError, StartupError
from penstock.base.units import BYTES_PER_GIB
from penstock.drivers.libvirt import programs
from penstock.drivers.libvirt.machine import Image, Seed
from penstock.drivers.libvirt.seed import meta_data, write_seed
from penstock.drivers.libvirt.store import MachineStore, Record

needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed here")


class _From:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.times = 0

    def fetch(self, image_id: str, target: Path) -> None:
        del image_id
        self.times += 1
        shutil.copyfile(self.file, target)


def _create(file: Path, *more: str) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *more, str(file), "1M"], check=True)
    return file


def _image(file: Path) -> Image:
    return Image("img_1", hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size)


@needs_qemu
def test_an_image_is_fetched_once_and_disks_lie_over_it(tmp_path: Path) -> None:
    source = _From(_create(tmp_path / "image"))
    store = MachineStore(tmp_path / "node", source)
    base = store.base_file(_image(source.file))
    assert store.base_file(_image(source.file)) == base
    assert source.times == 1
    disk = tmp_path / "disk.qcow2"
    store.make_disk(base, disk)
    store.make_disk(base, disk)
    store.grow(disk, BYTES_PER_GIB)
    assert programs.virtual_bytes(disk) == BYTES_PER_GIB
    store.grow(disk, 1)  # never smaller
    assert programs.virtual_bytes(disk) == BYTES_PER_GIB


@needs_qemu
@pytest.mark.parametrize("kind", ["checksum", "backing", "damaged", "raw"])
def test_an_image_that_is_not_what_it_should_be_is_not_kept(tmp_path: Path, kind: str) -> None:
    if kind == "backing":
        bad = _create(tmp_path / "image", "-b", str(_create(tmp_path / "secret")), "-F", "qcow2")
    elif kind == "raw":
        bad = tmp_path / "image"
        bad.write_bytes(b"no image" * 100)
    else:
        bad = _create(tmp_path / "image")
    if kind == "damaged":
        data = bytearray(bad.read_bytes())
        data[40:48] = (1 << 40).to_bytes(8, "big")  # the table of clusters lies beyond the end
        bad.write_bytes(data)
    image = replace(_image(bad), sha256="0" * 64) if kind == "checksum" else _image(bad)
    store = MachineStore(tmp_path / "node", _From(bad))
    with pytest.raises((InvalidInputError, programs.ProgramError)):
        store.base_file(image)
    assert list((tmp_path / "node/images").iterdir()) == []


@needs_qemu
@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (20, (40).to_bytes(4, "big")),
        (20, b"\xff" * 4),
        (36, b"\xff" * 4),
        (56, b"\xff" * 4),
        (60, b"\xff" * 4),
        (96, b"\xff" * 4),
    ],
    ids=[
        "cluster-bits",
        "cluster-bits-max",
        "clusters-table",
        "counts-table",
        "snapshots",
        "width-of-counts",
    ],
)
def test_an_image_with_absurd_numbers_is_refused_by_name(tmp_path: Path, offset: int, value: bytes) -> None:
    bad = _create(tmp_path / "image")
    data = bytearray(bad.read_bytes())
    data[offset : offset + len(value)] = value
    bad.write_bytes(data)
    with pytest.raises(InvalidInputError, match="damaged") as caught:
        MachineStore(tmp_path / "node", _From(bad)).base_file(_image(bad))
    assert caught.value.field == "image"
    assert list((tmp_path / "node/images").iterdir()) == []


@needs_qemu
def test_an_image_that_wants_all_memory_is_refused_within_the_bound(tmp_path: Path) -> None:
    """The smallest clusters and the widest counts: qemu-img wants 8 bytes for each 512 of a file without content."""
    bad = _create(tmp_path / "image", "-o", "cluster_size=512,refcount_bits=64")
    os.truncate(bad, limits.IMAGE_BYTES_MAX)
    assert programs.image_facts(bad)["virtual-size"] == 1 << 20
    with pytest.raises(programs.ProgramError, match="more than 512 MiB of memory"):
        programs.check_image(bad)


def test_what_reads_a_foreign_image_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THIS_PROCESS", "s3cret")
    told = programs.judge(["sh", "-c", "ulimit -v; ulimit -c; env; grep NoNewPrivs /proc/self/status"])
    lines = told.splitlines()
    assert lines[:2] == [str(limits.VM_JUDGE_MEMORY_BYTES >> 10), "0"]
    assert lines[-1].split() == ["NoNewPrivs:", "1"]
    assert "s3cret" not in told
    monkeypatch.setattr(limits, "VM_JUDGE_CPU_SECONDS", 1)
    with pytest.raises(programs.ProgramError, match="more than 1 s of a processor"):
        programs.judge(["sh", "-c", "while :; do :; done"])
    monkeypatch.setattr(limits, "VM_JUDGE_SECONDS", 0.1)
    with pytest.raises(programs.ProgramError, match="did not end"):
        programs.judge(["sleep", "60"])
    assert not list(tmp_path.iterdir())


def test_a_record_is_there_after_its_process(tmp_path: Path) -> None:
    store = MachineStore(tmp_path, _From(tmp_path))
    assert store.read("one") is None
    store.write("one", Record(3, uuid="u", problems={"move": "no"}, snapshots={"s": 5}))
    store.note("one", power="off")
    again = MachineStore(tmp_path, _From(tmp_path)).read("one")
    assert again == Record(3, uuid="u", power="off", problems={"move": "no"}, snapshots={"s": 5})
    assert store.ids() == ["one"]
    store.forget("one")
    store.forget("one")
    assert store.ids() == []


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError):
        MachineStore(tmp_path / "file", _From(tmp_path))


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(programs.UnavailableError, match="no-such-program"):
        programs.run(["no-such-program"])
    with pytest.raises(programs.ProgramError, match="failed"):
        programs.run(["false"])


def test_meta_data_quotes_what_a_person_gave() -> None:
    text = meta_data(Seed("i-1", "web", ('ssh-rsa AAAA "quoted" #x',), b""))
    assert text.splitlines() == [
        "instance-id: i-1",
        "local-hostname: web",
        "public-keys:",
        '  - "ssh-rsa AAAA \\"quoted\\" #x"',
    ]


@pytest.mark.skipif(shutil.which("genisoimage") is None, reason="genisoimage is not installed here")
def test_the_seed_holds_bytes_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "seed.iso"
    data = bytes(range(256))
    write_seed(Seed("i-1", "web", (), data), file)
    assert data in file.read_bytes()
    assert [one.name for one in tmp_path.iterdir()] == ["seed.iso"]
