"""Weights over HTTPS: from the factory with the agent's certificate, or from the artefact's own address."""

from pathlib import Path

import httpx
import pytest

from penstock.agent.identity import IdentityFolder
from penstock.agent.weights import HttpsWeights
from penstock.base.errors import UnavailableError
from tests.support.weights import listing_of

DATA = b"0123456789" * 100
LISTING = listing_of({"model 1.bin": DATA}, "https://mirror.test/models/own")
(FILE,) = LISTING.files


@pytest.fixture
def weights(tmp_path: Path) -> HttpsWeights:
    return HttpsWeights(IdentityFolder(tmp_path))


def answering(
    monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | httpx.HTTPError
) -> list[httpx.Request]:
    """Let the network give ``answer`` to every request; return the list that requests come into."""
    asked: list[httpx.Request] = []
    real = httpx.Client

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if isinstance(answer, httpx.HTTPError):
            raise answer
        return answer

    def client(**values: object) -> httpx.Client:
        return real(transport=httpx.MockTransport(handle), **values)

    monkeypatch.setattr(httpx, "Client", client)
    return asked


def streamed(status: int, data: bytes, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=names, stream=httpx.ByteStream(data))


@pytest.mark.parametrize(
    ("offset", "answer", "begin"),
    [
        (0, streamed(200, DATA), 0),
        (400, streamed(206, DATA[400:], content_range="bytes 400-999/1000"), 400),
        (400, streamed(200, DATA), 0),  # a server that knows no ranges
    ],
    ids=["whole", "from a byte on", "no ranges"],
)
def test_files_come_from_the_address_and_go_on_where_they_broke_off(
    weights: HttpsWeights, monkeypatch: pytest.MonkeyPatch, offset: int, answer: httpx.Response, begin: int
) -> None:
    asked = answering(monkeypatch, answer)
    with weights.open(LISTING, FILE, offset) as (at, pieces):
        assert (at, b"".join(pieces)) == (begin, DATA[begin:])
    assert str(asked[0].url) == "https://mirror.test/models/own/model%201.bin"
    assert asked[0].headers.get("range") == (f"bytes={offset}-" if offset else None)


@pytest.mark.parametrize(
    "answer",
    [
        streamed(404, b"no"),
        streamed(206, DATA, content_range="bytes 0-999/1000"),
        streamed(200, DATA, content_encoding="gzip"),
        httpx.ReadTimeout("too slow"),
        streamed(302, b"", location="http://elsewhere.test/"),
    ],
    ids=["absent", "another range", "encoded", "slow", "away from https"],
)
def test_any_other_answer_is_an_outage_with_words(
    weights: HttpsWeights, monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | httpx.HTTPError
) -> None:
    answering(monkeypatch, answer)
    with pytest.raises(UnavailableError, match=r"model 1\.bin"), weights.open(LISTING, FILE, 10):
        pass
