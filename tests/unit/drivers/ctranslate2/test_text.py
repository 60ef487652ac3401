"""Tokens to text and back, and stop strings, over any text that hypothesis finds."""

import random

from hypothesis import given
from hypothesis import strategies as st

from penstock.drivers.ctranslate2.checkpoint import demo_model_dir
from penstock.drivers.ctranslate2.template import encode_text
from penstock.drivers.ctranslate2.text import StopScanner, Vocabulary, byte_alphabet, load_tokenizer

TOKENIZER = load_tokenizer(str(demo_model_dir() / "tokenizer.json"))
VOCABULARY = Vocabulary(TOKENIZER)
BYTES = {VOCABULARY.bytes_of(token_id): token_id for token_id in range(3, 260)}


def written(ids: list[int]) -> list[str]:
    step = VOCABULARY.detokenizer()
    return [step(token_id) for token_id in ids]


def test_the_alphabet_covers_every_byte_once() -> None:
    assert sorted(byte_alphabet().values()) == list(range(256))


@given(st.text())
def test_tokens_give_back_the_exact_text(text: str) -> None:
    assert "".join(written(encode_text(TOKENIZER, text))) == text


@given(st.text(alphabet=st.characters(min_codepoint=0x80, exclude_categories=["Cs"]), min_size=1))
def test_one_byte_at_a_time_never_shows_a_broken_character(text: str) -> None:
    shown = ""
    for piece in written([BYTES[bytes([byte])] for byte in text.encode()]):
        shown += piece
        assert text.startswith(shown)
    assert shown == text


def test_an_unfinished_character_is_never_shown() -> None:
    ids = [BYTES[bytes([byte])] for byte in "a🙂".encode()]
    assert written(ids) == ["a", "", "", "", "🙂"]
    assert "".join(written(ids[:-1])) == "a"


@given(st.lists(st.integers(0, 4095), max_size=40))
def test_any_tokens_at_all_give_valid_text(ids: list[int]) -> None:
    text = "".join(written(ids))
    assert text.encode().decode() == text


def test_bytes_that_cannot_be_text_give_the_replacement_sign() -> None:
    assert "".join(written([BYTES[b"\xff"], BYTES[b"a"]])) == "\ufffda"


def test_special_tokens_have_no_text() -> None:
    end = TOKENIZER.token_to_id("<|im_end|>")
    assert end is not None
    assert written([end]) == [""]
    assert VOCABULARY.bytes_of(1 << 30) == b""


@given(
    st.text(alphabet="ab", max_size=30),
    st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3),
    st.integers(),
)
def test_the_scanner_shows_exactly_what_is_before_the_first_stop(
    text: str, stops: list[str], seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311 - how a text is cut, not a secret
    scanner, shown, position = StopScanner(stops), "", 0
    while position < len(text) and not scanner.stopped:
        size = rng.randint(1, 3)
        shown += scanner.push(text[position : position + size])
        position += size
        if not scanner.stopped:
            assert text.startswith(shown)
    seen = text[:position]
    first = min((seen.find(stop) for stop in stops if stop in seen), default=-1)
    assert scanner.stopped == (first >= 0)
    assert shown + scanner.flush() == (seen[:first] if first >= 0 else text)
