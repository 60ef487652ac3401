"""What an artefact is, and which lists of files are none."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.domain.weights import (
    FETCHING,
    Listing,
    check_url,
    fetching_sentence,
    progress_sentence,
    start_deadline,
)
from tests.support.weights import listing_of

LISTING = listing_of({"b.bin": b"b", "a.json": b"{}"}, "https://mirror.test/models/a")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "0" * 64


def test_a_list_comes_back_as_it_was_and_its_name_is_its_content() -> None:
    assert Listing.from_json(LISTING.as_json(), LISTING.sha256) == LISTING
    assert listing_of({"a.json": b"{}", "b.bin": b"b"}).sha256 == LISTING.sha256
    assert listing_of({"a.json": b"{}", "b.bin": b"c"}).sha256 != LISTING.sha256
    with pytest.raises(InvalidInputError, match="not the one that was asked for"):
        Listing.from_json(LISTING.as_json(), DIGEST)


@pytest.mark.parametrize(
    "files",
    [
        None,
        [],
        [["a"]],
        [["../a", 1, DIGEST]],
        [["..", 1, DIGEST]],
        [["a/b", 1, DIGEST]],
        [["a\0", 1, DIGEST]],
        [["", 1, DIGEST]],
        [["a", -1, DIGEST]],
        [["a", 1, "ff"]],
        [["a", 1, DIGEST], ["a", 1, DIGEST]],
        [[str(number), 1, DIGEST] for number in range(limits.WEIGHTS_FILES_MAX + 1)],
    ],
    ids=range(12),
)
def test_what_is_no_list_of_files_is_refused(files: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Listing.from_json({"files": files}, DIGEST)
    assert caught.value.field == "files"


@pytest.mark.parametrize(
    "url", ["http://a.test/", "https://a.test/ b", "https://a.test/?q", "file:///etc", "https://é.test/"]
)
def test_only_https_folders_are_addresses(url: str) -> None:
    with pytest.raises(InvalidInputError):
        check_url(url)


def test_a_start_is_waited_for_while_weights_arrive() -> None:
    heard = {"code": FETCHING, "observed_at": NOW, "message": "fetching weights 43 % (430 MiB of 1.0 GiB)"}
    assert start_deadline([heard], NOW) == NOW + limits.START_DEADLINE
    assert start_deadline([{**heard, "code": None}], NOW) == NOW
    assert start_deadline([heard], NOW + timedelta(days=1)) == NOW + timedelta(days=1)
    assert fetching_sentence([{"code": None, "message": "x"}, heard]) == heard["message"]
    assert fetching_sentence([]) is None


def test_progress_is_in_percent_and_bytes() -> None:
    assert progress_sentence(430 << 20, 1 << 30) == "fetching weights 41 % (430 MiB of 1.0 GiB)"
    assert progress_sentence(0, 0) == "fetching weights 0 % (0 B of 0 B)"
