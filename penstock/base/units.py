"""Units and exact integer arithmetic for money, time and tokens.

Money is an integer number of micro-euro (1 EUR = 1,000,000), time an integer number of microseconds.
"""

MICROEUR_PER_EUR = 1_000_000
US_PER_SECOND = 1_000_000
US_PER_HOUR = 3_600 * US_PER_SECOND
SECONDS_PER_DAY = 86_400
# What is kept for a time is metered in small units: how many make the one that people read, and what that is called.
TIMES_BY_UNIT = {
    "chunk_second": (SECONDS_PER_DAY, "chunk-days"),
    "vcpu_us": (US_PER_HOUR, "vCPU-hours"),
    "mib_us": (1_024 * US_PER_HOUR, "GiB-hours of memory"),
    "gib_us": (US_PER_HOUR, "GiB-hours of disk"),
    "volume_gib_us": (US_PER_HOUR, "GiB-hours of volumes"),
    "snapshot_mib_us": (1_024 * US_PER_HOUR, "GiB-hours of snapshots"),
}
TOKENS_PER_PRICE_UNIT = 1_000_000
BYTES_PER_GIB = 1 << 30
HOURS_PER_YEAR = 8_760


def div_round_half_even(numerator: int, denominator: int) -> int:
    """Return ``numerator / denominator`` rounded to the nearest integer, ties to the even one.

    Exact for integers of any size; ``denominator`` must be positive, else ValueError. Half-even is the
    rounding of ISO 80000-1 rule A: it adds no drift over many invoice lines.
    """
    if denominator <= 0:
        raise ValueError("the denominator must be positive")
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient % 2 == 1):
        return quotient + 1
    return quotient


def format_counted(quantity: int, unit: str) -> str:
    """Return a metered quantity in words: ``'1,000 tokens'``, and what is kept for a time in ``TIMES_BY_UNIT``."""
    if unit in TIMES_BY_UNIT:
        per, name = TIMES_BY_UNIT[unit]
        return f"{quantity / per:,.3f} {name}"
    plural = f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s"
    return f"{quantity:,} {unit if quantity == 1 else plural}"


def format_eur(microeur: int, decimals: int = 2) -> str:
    """Return micro-euro as text in euro, for example ``1234567`` -> ``'1.23 EUR'``; 0 to 6 decimals."""
    if not 0 <= decimals <= 6:
        raise ValueError("0 to 6 decimals")
    scaled = div_round_half_even(microeur, 10 ** (6 - decimals))
    sign = "-" if scaled < 0 else ""
    whole, fraction = divmod(abs(scaled), 10**decimals)
    tail = f".{fraction:0{decimals}d}" if decimals else ""
    return f"{sign}{whole:,}{tail} EUR"


def format_price(microeur: int) -> str:
    """Return micro-euro as text in euro; small amounts keep the digits that they need: ``1000`` -> ``'0.0010 EUR'``."""
    size = abs(microeur)
    return format_eur(microeur, 2 if size >= 10_000 or size == 0 else 4 if size >= 100 else 6)


def format_bytes(size_bytes: int) -> str:
    """Return a size in binary units with at most one decimal, for example ``'186 GiB'``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable: the loop returns at TiB")


def format_duration(seconds: float) -> str:
    """Return a span as a person reads it: ``'12 ms'``, ``'3.4 s'``, ``'5 min 02 s'``, ``'2 h 05 min'``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
