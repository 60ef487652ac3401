"""Whether the other host of a move answers, before a machine is touched."""

import socket
from collections.abc import Iterator

import pytest

from penstock.base.errors import UnavailableError
from penstock.drivers.libvirt.hypervisor import HypervisorError
from penstock.drivers.libvirt.knock import check_way, host_of, knock


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        yield made


def test_who_listens_and_who_refuses_has_answered(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    knock("127.0.0.1", port, 5)  # bound and not listening: the kernel refuses
    listener.listen()
    knock("127.0.0.1", port, 5)


def test_silence_is_told_with_the_port_and_what_to_look_at(listener: socket.socket) -> None:
    listener.listen(0)
    port = listener.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)), pytest.raises(UnavailableError) as told:
        knock("127.0.0.1", port, 0.05)  # its queue is full, so the kernel says nothing
    assert f"nothing answered at TCP port {port} of 127.0.0.1" in told.value.sentence
    assert "libvirt's ports for moves" in told.value.sentence


def test_what_else_is_in_the_way_is_told_in_the_systems_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", fails)
    with pytest.raises(
        UnavailableError, match="hv9 cannot be reached at TCP port 7: Name or service not known"
    ):
        knock("hv9", 7)


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("qemu+tls://hv2/system", "hv2"),
        ("qemu+ssh://root@10.0.0.2:2222/system?keyfile=/k", "10.0.0.2"),
        ("qemu+tcp://[fd00::2]/system", "fd00::2"),
        ("qemu:///system", None),
    ],
)
def test_the_way_to_a_host_is_checked_where_its_address_names_one(uri: str, host: str | None) -> None:
    asked: list[str] = []

    def silent(host: str, port: int, seconds: float) -> None:
        del port, seconds
        asked.append(host)
        raise UnavailableError("nothing answered")

    assert host_of(uri) == host
    if host is None:
        check_way(uri, silent)
        assert asked == []
    else:
        with pytest.raises(HypervisorError, match="the machine was not sent: nothing answered"):
            check_way(uri, silent)
        assert asked == [host]
