"""Values as people read them: units, thousands, escapes."""

from datetime import datetime, timedelta, timezone

import pytest

from penstock.console import formats


@pytest.mark.parametrize(
    ("microeur", "text"),
    [
        (0, "0.00 EUR"),
        (1, "0.000001 EUR"),
        (99, "0.000099 EUR"),
        (1_234, "0.0012 EUR"),
        (9_999, "0.0100 EUR"),
        (1_234_567, "1.23 EUR"),
        (-1_234_567, "-1.23 EUR"),
        (61_810_560_000_000, "61,810,560.00 EUR"),
        (None, "no price"),
    ],
)
def test_small_amounts_keep_the_digits_they_need(microeur: int | None, text: str) -> None:
    assert formats.money(microeur) == text


def test_a_moment_is_told_in_utc_and_marked_for_the_readers_own_zone() -> None:
    berlin = timezone(timedelta(hours=1))
    shown = formats.instant(datetime(2026, 1, 1, 0, 30, 5, 123456, tzinfo=berlin))
    assert shown == '<time datetime="2025-12-31T23:30:05.123Z">2025-12-31 23:30:05 UTC</time>'
    assert "open" in formats.instant(None, "open")
    assert formats.day(datetime(2026, 1, 1, 0, 30, tzinfo=berlin)) == "2025-12-31"


def test_quantities_carry_their_unit() -> None:
    assert formats.usage_quantity(3_600_000_000, "device_us") == "1.0000 GPU-h"
    assert formats.usage_quantity(1, "token") == "1 token"
    assert formats.usage_quantity(1_024 * 3_600_000_000, "mib_us") == "1.000 GiB-hours of memory"
    assert formats.usage_quantity(12_000, "token") == "12,000 tokens"
    assert formats.quota_amount(5_000_000, "microeur_per_month") == "5.00 EUR"
    assert formats.quota_amount(1 << 40, "device_memory_bytes:H100") == "1,024 GiB"
    assert formats.quota_amount(7_200, "gpu_seconds_per_month") == "2.0 GPU-h"
    assert formats.quota_name("devices:H100") == "Devices, H100"
    assert formats.ppm(123_456) == "12.3 %"
    assert formats.ppm(None) == "not measured"
    assert [formats.watts(one) for one in (12, 1_200, 1_850_000)] == ["12 W", "1.2 kW", "1.85 MW"]


def test_what_people_wrote_is_escaped_in_every_mark() -> None:
    evil = '"><b>'
    for shown in (
        formats.badge(evil, evil),
        formats.short(evil),
        formats.detail({evil: evil, "in": {"x": [evil]}}),
        formats.lines(f"{evil}\n{evil}"),
        formats.instant(None, evil),
    ):
        assert "<b>" not in shown
        assert "&lt;b&gt;" in shown


def test_advice_for_the_command_line_is_left_out_on_pages() -> None:
    said = "nothing free fits right now; it starts as soon as something is released. See `penstock explain`"
    assert formats.plainly(said) == "nothing free fits right now; it starts as soon as something is released"
    assert formats.plainly("no offer 'x'; see what may be ordered") == "no offer 'x'; see what may be ordered"


def test_every_state_of_the_product_has_words() -> None:
    assert formats.words("sold_busy") == "sold, busy"
    assert formats.tone("running") == "good"
    assert formats.tone("never heard of") == "idle"
    assert formats.pairs([{"id": 1, "name": "a"}], "id", "name") == [(1, "a")]
    assert formats.without({"a": 1, "b": 2}, "a") == {"b": 2}
    assert formats.count(1_234_567) == "1,234,567"
    assert formats.hourly(None) == "no price"
    assert formats.span_us(1_500_000) == "1.5 s"
    assert formats.span(None) == "-"
    assert formats.value(None) == "any"
    assert [formats.value(one) for one in (True, False, 3)] == ["yes", "no", "3"]
