"""Values as people read them: money, times, spans, sizes, names of states. Pure; every number has its unit."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from penstock.base.units import (
    BYTES_PER_GIB,
    format_bytes,
    format_counted,
    format_duration,
    format_eur,
    format_price,
)
from penstock.domain.fabric_partition import shown
from penstock.domain.price import Meter

# How a state looks: good, busy (on its way), idle, bad or over.
TONES: Mapping[str, str] = {
    "running": "good",
    "active": "good",
    "ready": "good",
    "ok": "good",
    "valid": "good",
    "final": "good",
    "sold_busy": "good",
    "done": "good",
    "completed": "good",
    "booked": "busy",
    "opening": "busy",
    "moves": "busy",
    "yields": "busy",
    "waits": "bad",
    "stays": "bad",
    "validating": "busy",
    "in_progress": "busy",
    "finalizing": "busy",
    "cancelling": "busy",
    "pending": "busy",
    "provisioning": "busy",
    "stopping": "busy",
    "terminating": "busy",
    "maintenance_required": "bad",
    "indexing": "busy",
    "waiting": "busy",
    "deleting": "busy",
    "queued": "busy",
    "starting": "busy",
    "releasing": "busy",
    "recovering": "busy",
    "changing": "busy",
    "joining": "busy",
    "leaving": "busy",
    "member": "good",
    "refused": "bad",
    "draft": "busy",
    "degraded": "bad",
    "failed": "bad",
    "unreachable": "bad",
    "silent": "bad",
    "suspect": "bad",
    "suspended": "bad",
    "revoked": "over",
    "released": "over",
    "cancelled": "over",
    "terminated": "over",
    "lapsed": "over",
    "expired": "over",
    "ends": "over",
    "retired": "over",
    "ended": "over",
    "used": "over",
}

_COMMAND = re.compile(r"[.;]?\s*[Ss]ee `penstock[^`]*`\.?")

STATE_NAMES: Mapping[str, str] = {
    "sold_busy": "sold, busy",
    "sold_idle": "sold, idle",
    "reserved_unused": "reserved, unused",
    "power_held": "held for power",
}


def money(microeur: int | None, decimals: int | None = None) -> str:
    """Return an amount in euro; small ones keep the digits that they need."""
    if microeur is None:
        return "no price"
    return format_price(microeur) if decimals is None else format_eur(microeur, decimals)


def hourly(microeur: int | None) -> str:
    """Return a rate in euro per hour."""
    return "no price" if microeur is None else f"{money(microeur)}/h"


def at_most(microeur: int | None) -> str:
    """Return what something costs an hour at most, in words that end a sentence."""
    return "nothing: it has no price" if microeur is None else f"at most {money(microeur)} an hour"


def instant(at: datetime | None, absent: str = "never") -> Markup:
    """Return a moment in UTC, which a script rewrites into the reader's own time zone."""
    if at is None:
        return Markup("<span class=muted>{}</span>").format(absent)
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}">{} UTC</time>').format(
        utc.isoformat(timespec="milliseconds").replace("+00:00", "Z"), f"{utc:%Y-%m-%d %H:%M:%S}"
    )


def day(at: datetime) -> str:
    """Return the day of a moment, UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d}"


def span(seconds: float | None) -> str:
    """Return a length of time."""
    return "-" if seconds is None else format_duration(seconds)


def span_us(microseconds: int) -> str:
    """Return a length of time that is counted in microseconds."""
    return format_duration(microseconds / 1_000_000)


def count(number: float | None) -> str:
    """Return a number with its thousands apart."""
    if number is None:
        return "-"
    return f"{number:,}" if isinstance(number, int) else f"{number:,.1f}"


def ppm(share: int | None, decimals: int = 1) -> str:
    """Return parts per million as percent."""
    return "not measured" if share is None else f"{share / 10_000:.{decimals}f} %"


def watts(amount: int) -> str:
    """Return a power."""
    if amount >= 1_000_000:
        return f"{amount / 1_000_000:,.2f} MW"
    return f"{amount / 1_000:,.1f} kW" if amount >= 1_000 else f"{amount} W"


def words(name: str) -> str:
    """Return a name of the program as words."""
    return STATE_NAMES.get(name, name.replace("_", " "))


def tone(state: str) -> str:
    """Return how a state looks."""
    return TONES.get(state, "idle")


def badge(state: str, title: str = "") -> Markup:
    """Return a state as a small sign with its name."""
    return Markup('<span class="badge {}"{}>{}</span>').format(
        tone(state), Markup(' title="{}"').format(title) if title else "", words(state)
    )


def simulated(is_simulated: bool | None) -> Markup:  # noqa: FBT001 - a filter of one value
    """Return the mark that everything simulated carries."""
    return Markup('<span class="badge simulated">simulated</span>') if is_simulated else Markup()


def short(identifier: str) -> Markup:
    """Return an id in the type of machines, with the whole of it to read and copy."""
    return Markup('<code class="id">{}</code>').format(identifier)


def quota_amount(amount: int, dimension: str) -> str:
    """Return an amount of a quota in the unit of its measure."""
    measure = dimension.partition(":")[0]
    if measure == "microeur_per_month":
        return format_eur(amount)
    if measure == "device_memory_bytes":
        return f"{amount / BYTES_PER_GIB:,.0f} GiB"
    if measure == "gpu_seconds_per_month":
        return f"{amount / 3_600:,.1f} GPU-h"
    return f"{amount:,}"


def quota_name(dimension: str) -> str:
    """Return the name of a quota's dimension."""
    measure, _, device_class = dimension.partition(":")
    names = {
        "devices": "Devices",
        "slices": "Slices",
        "device_memory_bytes": "Device memory",
        "services": "Services",
        "volume_gib": "Volumes (GiB)",
        "snapshot_gib": "Snapshots (GiB)",
        "gpu_seconds_per_month": "GPU time this month",
        "tokens_per_month": "Tokens this month",
        "microeur_per_month": "Spend this month",
    }
    name = names.get(measure, words(measure))
    return f"{name}, {device_class}" if device_class else name


# What one price is for.
METERS = {
    Meter.GPU_HOURS: "a GPU-hour",
    Meter.RESERVED_GPU_HOURS: "a GPU-hour reserved and not used",
    Meter.INPUT_TOKENS: "a million tokens in",
    Meter.OUTPUT_TOKENS: "a million tokens out",
    Meter.BATCH_INPUT_TOKENS: "a million tokens in, of batches",
    Meter.BATCH_OUTPUT_TOKENS: "a million tokens out, of batches",
    Meter.VCPU_HOURS: "a virtual processor for an hour",
    Meter.MEMORY_GIB_HOURS: "a GiB of a machine's memory for an hour",
    Meter.DISK_GIB_HOURS: "a GiB of a machine's disk for an hour",
    Meter.VOLUME_GIB_HOURS: "a GiB of a volume for an hour",
    Meter.SNAPSHOT_GIB_HOURS: "a GiB of a snapshot for an hour",
    Meter.QUERIES: "a thousand questions to knowledge bases",
    Meter.DOCUMENTS_INDEXED: "a thousand documents indexed",
    Meter.CHUNK_DAYS: "a thousand chunks kept for a day",
}


def priced_for(meter: str) -> str:
    """Return what one price of a meter is for."""
    return METERS[Meter(meter)]


def usage_quantity(quantity: int, unit: str) -> str:
    """Return a metered quantity: device time in GPU-hours, storage in chunk-days, the rest as it is counted."""
    if unit == "device_us":
        return f"{quantity / 3_600_000_000:,.4f} GPU-h"
    return format_counted(quantity, unit)


def mib(amount: int) -> str:
    """Return an amount of memory that is counted in MiB."""
    return format_bytes(amount << 20)


def lines_of(document: Mapping[str, str]) -> str:
    """Return names and values as a text of one name=value a line."""
    return "\n".join(f"{name}={text}" for name, text in document.items())


def value(anything: Any) -> str:
    """Return a field of an order or an offer as text."""
    if anything is None:
        return "any"
    if isinstance(anything, bool):
        return "yes" if anything else "no"
    return str(anything)


def detail(document: Mapping[str, Any]) -> Markup:
    """Return a small document as a list of names and values on one line."""
    parts = [
        Markup("<span class=pair><i>{}</i> {}</span>").format(words(str(key)), _plain(entry))
        for key, entry in document.items()
        if entry not in (None, "", {}, [])
    ]
    return Markup(" ").join(parts)


def _plain(entry: Any) -> str:
    if isinstance(entry, Mapping):
        return ", ".join(f"{words(str(k))} {_plain(v)}" for k, v in entry.items())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - any JSON document
    return value(entry)


def lines(text: str) -> Markup:
    """Return a text with its line breaks kept."""
    return Markup("<br>").join(escape(line) for line in text.splitlines())


def pairs(rows: Iterable[Any], key: str, name: str) -> list[tuple[Any, Any]]:
    """Return two attributes or entries of each row, for a list to choose from."""
    return [
        (row[key], row[name]) if isinstance(row, Mapping) else (getattr(row, key), getattr(row, name))
        for row in rows
    ]


def twice(values: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Return each value as its own name, for a list to choose from."""
    return [(one, one) for one in values]


def without(document: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return a document without some entries."""
    return {name: entry for name, entry in document.items() if name not in names}


def plainly(sentence: str) -> str:
    """Return a sentence without its advice to type a command: the page has the button."""
    return _COMMAND.sub("", sentence)


FILTERS = {
    "plainly": plainly,
    "twice": twice,
    "without": without,
    "pairs": pairs,
    "money": money,
    "hourly": hourly,
    "instant": instant,
    "day": day,
    "span": span,
    "span_us": span_us,
    "count": count,
    "ppm": ppm,
    "watts": watts,
    "words": words,
    "tone": tone,
    "badge": badge,
    "simulated": simulated,
    "short": short,
    "pkey": shown,
    "bytes": format_bytes,
    "quota_amount": quota_amount,
    "quota_name": quota_name,
    "priced_for": priced_for,
    "usage_quantity": usage_quantity,
    "value": value,
    "mib": mib,
    "lines_of": lines_of,
    "detail": detail,
    "lines": lines,
}
