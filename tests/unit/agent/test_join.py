"""Joining a factory over real TLS: who is believed, what is refused, and what is kept."""

import os
import socket
import stat
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from penstock.agent.identity import IdentityFolder
from penstock.agent.join import check_url, join
from penstock.base.errors import (
    ForbiddenError,
    InvalidInputError,
    StartupError,
    UnauthenticatedError,
    UnavailableError,
)
from tests.support.agent_listener import Factory, listening

Listener = tuple[Factory, str]


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    with listening(tmp_path / "ca") as (factory, url):
        yield factory, url


@pytest.fixture
def folder(tmp_path: Path) -> IdentityFolder:
    return IdentityFolder(tmp_path / "agent" / "identity")


def join_it(folder: IdentityFolder, url: str, token: str) -> None:
    join(folder, url=url, token=token, name="node-7", site="local")


def test_a_token_becomes_an_identity(listener: Listener, folder: IdentityFolder) -> None:
    factory, url = listener
    assert not folder.exists()
    join_it(folder, url + "/", f"  {factory.new_token()}\n")
    identity = folder.load()
    assert (identity.url, identity.name, identity.site) == (url, "node-7", "local")
    assert list(factory.agents) == [identity.agent_id]
    assert factory.requests == ["GET /v1/agents/ca", "POST /v1/agents/join"]
    start, end = folder.validity()
    assert timedelta(hours=24) <= end - start <= timedelta(hours=25)
    assert stat.S_IMODE(folder.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.folder.iterdir()} == {0o600}


def test_a_used_token_is_refused_in_the_factorys_words(listener: Listener, folder: IdentityFolder) -> None:
    factory, url = listener
    token = factory.new_token()
    join_it(folder, url, token)
    before = folder.load()
    with pytest.raises(UnauthenticatedError, match="make a new one"):
        join_it(folder, url, token)
    assert folder.load() == before


def test_an_impostor_never_sees_the_secret(
    listener: Listener, folder: IdentityFolder, tmp_path: Path
) -> None:
    factory, _ = listener
    with listening(tmp_path / "impostor") as (impostor, url):
        with pytest.raises(ForbiddenError, match="another fingerprint"):
            join_it(folder, url, factory.new_token())
        assert impostor.requests == ["GET /v1/agents/ca"]
    assert not folder.exists()


def test_an_impostor_that_shows_the_right_authority_is_refused_by_tls(
    listener: Listener, folder: IdentityFolder, tmp_path: Path
) -> None:
    factory, _ = listener
    with listening(tmp_path / "impostor") as (impostor, url):
        impostor.shown_ca_pem = factory.ca.ca_pem  # it is public: anybody can show it
        with pytest.raises(UnavailableError, match="not the factory"):
            join_it(folder, url, factory.new_token())
        assert impostor.requests == ["GET /v1/agents/ca"]


def test_the_factory_is_known_by_its_own_name_at_any_address(folder: IdentityFolder, tmp_path: Path) -> None:
    with listening(tmp_path / "ca", hosts=("factory.example",)) as (factory, url):
        join_it(folder, url, factory.new_token())
        join_it(folder, url.replace("127.0.0.1", "localhost"), factory.new_token())


@pytest.mark.parametrize(
    "token", ["", "pjt_x", "psk_abc.def", "pjt_" + "0" * 26 + "." + "a" * 40 + ".zz", "é" * 99]
)
def test_what_is_no_token_is_not_sent(listener: Listener, folder: IdentityFolder, token: str) -> None:
    factory, url = listener
    with pytest.raises(InvalidInputError) as caught:
        join_it(folder, url, token)
    assert caught.value.field == "token"
    assert factory.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "factory",
        "http://factory:1",
        "https://",
        "https://u:p@host",
        "https://h:x",
        "https://h/path",
        "https://h?q=1",
    ],
)
def test_what_is_no_address_is_refused_by_field(url: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_url(url)
    assert caught.value.field == "url"


def test_addresses_are_put_right() -> None:
    assert check_url(" https://Factory.Example:7402/ ") == "https://factory.example:7402"
    assert check_url("https://[::1]:7402") == "https://[::1]:7402"
    assert check_url("https://host") == "https://host"


def test_a_folder_that_cannot_be_written_does_not_cost_the_token(listener: Listener, tmp_path: Path) -> None:
    factory, url = listener
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="cannot be used"):
        join_it(IdentityFolder(tmp_path / "file" / "identity"), url, factory.new_token())
    assert factory.requests == []
    assert len(factory.tokens) == 1


def test_nobody_there_and_somebody_else_there_are_told_apart(
    listener: Listener, folder: IdentityFolder
) -> None:
    factory, _ = listener
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}"

        def speak() -> None:
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(UnavailableError, match="cannot be reached"):
            join_it(folder, url, factory.new_token())
        thread.join()
    with pytest.raises(UnavailableError, match="cannot be reached"):
        join_it(folder, url, factory.new_token())


def test_an_answer_that_is_none_of_ours_is_refused(listener: Listener, folder: IdentityFolder) -> None:
    factory, url = listener
    factory.join = lambda body: {"agent_id": 7, "body": len(body)}  # pyright: ignore[reportAttributeAccessIssue] - the listener answers wrongly on purpose
    with pytest.raises(InvalidInputError) as caught:
        join_it(folder, url, factory.new_token())
    assert caught.value.field == "agent_id"
    assert not folder.exists()


def test_a_factory_that_signs_another_key_is_refused(
    listener: Listener, folder: IdentityFolder, tmp_path: Path
) -> None:
    factory, url = listener
    other = IdentityFolder(tmp_path / "other")
    join_it(other, url, factory.new_token())
    theirs = (other.folder / "agent.pem").read_text().partition("-----BEGIN PRIVATE")[0]
    real = factory.join

    def swap(body: object) -> object:
        return {**real(body), "certificate_pem": theirs}

    factory.join = swap  # pyright: ignore[reportAttributeAccessIssue] - the listener answers wrongly on purpose
    with pytest.raises(StartupError, match="another key"):
        join_it(folder, url, factory.new_token())
    assert not folder.exists()


def test_a_spoilt_identity_says_how_to_go_on(listener: Listener, folder: IdentityFolder) -> None:
    factory, url = listener
    with pytest.raises(StartupError, match="penstock agent join"):
        folder.load()
    join_it(folder, url, factory.new_token())
    (folder.folder / "agent.pem").chmod(0o644)
    with pytest.raises(StartupError, match="chmod 600"):
        folder.load()
    for name in ("agent.pem", "identity.json"):
        join_it(folder, url, factory.new_token())
        (folder.folder / name).write_bytes(b"{}")
        with pytest.raises(StartupError, match="--replace"):
            folder.load()


def test_one_agent_works_with_a_folder(folder: IdentityFolder) -> None:
    handle = folder.hold()
    with pytest.raises(StartupError, match="another agent"):
        folder.hold()
    os.close(handle)
    os.close(folder.hold())
