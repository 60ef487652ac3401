"""Tables whose errors name the line."""

import gzip
from pathlib import Path

import pytest

from penstock.base import limits
from penstock.base.errors import InvalidInputError, TooLargeError
from penstock.twin.queue.table import read_table, whole_number


def table(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_rows_come_with_their_line(tmp_path: Path) -> None:
    plain = table(tmp_path, "\ufeffa,b\r\n1,x\r\n\r\n2,\n")
    packed = table(tmp_path, gzip.compress(b"a,b\n1,x\n"), "t.csv.gz")
    assert list(read_table(plain, ("a",), ("b",))) == [(2, {"a": "1", "b": "x"}), (4, {"a": "2", "b": ""})]
    assert list(read_table(packed, ("a",), ("b",))) == [(2, {"a": "1", "b": "x"})]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "file is empty"),
        ("a,c,d\n1,2,3\n", "line 1: unknown columns c, d; needed are a, allowed b"),
        ("b\n1\n", "line 1: missing column a"),
        ("a,b,a\n1,2,3\n", "line 1: repeated column a"),
        ("a,b\n1,2\n3\n", "line 3: 1 values for 2 columns"),
        ('a,b\n1,"2"x\n', "line 2: not CSV"),
        (b"a,b\n\xff,1\n", "not UTF-8"),
    ],
)
def test_what_is_not_the_table_is_refused(tmp_path: Path, content: str | bytes, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        list(read_table(table(tmp_path, content), ("a",), ("b",)))


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"a\n1\n", mtime=0)[:-9]])
def test_a_broken_gzip_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InvalidInputError, match="not a gzip file"):
        list(read_table(table(tmp_path, content, "t.csv.gz"), ("a",), ()))


def test_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path, "a\n1\n2\n3\n")
    monkeypatch.setattr(limits, "TWIN_LINES_MAX", 3)
    with pytest.raises(TooLargeError, match="more than 3 lines"):
        list(read_table(path, ("a",), ()))
    monkeypatch.setattr(limits, "TWIN_FILE_BYTES_MAX", 7)
    with pytest.raises(TooLargeError, match="more than 7 bytes"):
        list(read_table(path, ("a",), ()))


@pytest.mark.parametrize("text", ["", "1.5", "x", "-1", "11", "1e3"])
def test_a_number_is_whole_and_in_range(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"t\.csv, line 7: n is"):
        whole_number(Path("t.csv"), 7, {"n": text}, "n", 0, 10)
    assert whole_number(Path("t.csv"), 7, {"n": " 10 "}, "n", 0, 10) == 10
