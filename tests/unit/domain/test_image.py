"""Images are known by their first bytes, and dangerous ones are refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.domain.image import HEADER_BYTES, check_header
from tests.support.machine_objects import GIB, qcow2


def test_a_plain_image_says_how_large_it_is() -> None:
    assert check_header(qcow2(virtual_bytes=3 * GIB), 1_024).virtual_bytes == 3 * GIB
    assert check_header(qcow2(version=2, features=7), 1_024).virtual_bytes == GIB  # version 2 has no features


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"", "nothing"),
        (b"KDMV" + b"\0" * 600, "VMDK"),
        (b"\x1f\x8b" + b"\0" * 600, "gzip"),
        (b"\0" * 510 + b"\x55\xaa", "raw disk"),
        (b"hello" * 200, "no known form"),
        (qcow2()[:50], "cut short"),
        (qcow2(version=9), "version 9"),
        (qcow2(backing=104), "backing file"),
        (qcow2(crypt=1), "encrypted"),
        (qcow2(cluster_bits=40), "cluster size"),
        (qcow2(features=4), "another file"),
        (qcow2(features=2), "corrupt"),
        (qcow2(features=1 << 60), "not known here"),
        (qcow2(virtual_bytes=0), "as a disk"),
        (qcow2(virtual_bytes=(limits.VM_DISK_GIB_MAX + 1) * GIB), "as a disk"),
        (qcow2(table_offset=1 << 40), "beyond its end"),
        (qcow2(table_entries=1 << 31), "beyond its end"),
        (qcow2(counts_offset=1 << 40), "counts lies beyond its end"),
        (qcow2(counts_clusters=(1 << 32) - 1), "counts lies beyond its end"),
        (qcow2(snapshots=(1 << 32) - 1), "more snapshots"),
        (qcow2(refcount_order=7), "width of its counts"),
    ],
)
def test_what_is_not_taken_says_why(head: bytes, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as caught:
        check_header(head[:HEADER_BYTES], len(head))
    assert caught.value.field == "image"


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (qcow2(table_entries=(4 << 20) + 1), "clusters has 33554440 bytes"),
        (qcow2(counts_clusters=129), "counts has 8454144 bytes"),
    ],
    ids=["clusters", "counts"],
)
def test_tables_that_fit_into_a_huge_file_have_a_limit_of_their_own(head: bytes, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as caught:
        check_header(head[:HEADER_BYTES], limits.IMAGE_BYTES_MAX)
    assert caught.value.field == "image"


@given(st.binary(max_size=HEADER_BYTES))
def test_no_bytes_break_it(head: bytes) -> None:
    try:
        check_header(b"QFI\xfb" + head, 4 + len(head))
    except InvalidInputError as error:
        assert error.field == "image"  # noqa: PT017 - taken or refused, never anything else
