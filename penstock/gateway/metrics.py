"""Counters of the data plane and their Prometheus text; counting is an addition, formatting happens on scrape."""

import os
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping

import orjson

from penstock.gateway.objective import NO_OBJECTIVE, WINDOWS_MINUTES, Burn

_HEADER = struct.Struct("<QQ")
_READS = 4
_P = "penstock_gateway_"
TTFT_BOUNDS_US = (
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
)


TOKEN_BOUNDS_US = (2_000, 5_000, 10_000, 20_000, 30_000, 50_000, 75_000, 100_000, 200_000, 500_000, 1_000_000)


class KeyStats:
    """What one key asked and got; survives snapshots."""

    __slots__ = (
        "completion_tokens",
        "failed",
        "key",
        "limited",
        "prompt_tokens",
        "requests",
        "tenant",
        "ttft_count",
        "ttft_sum_us",
    )

    def __init__(self, tenant: str, key: str) -> None:
        self.tenant = tenant
        self.key = key
        self.requests = self.limited = self.failed = 0
        self.prompt_tokens = self.completion_tokens = 0
        self.ttft_count = self.ttft_sum_us = 0


class ModelStats:
    """What happened to one model of one service; survives snapshots."""

    __slots__ = (
        "burn",
        "completion_tokens",
        "endings",
        "estimated",
        "in_flight",
        "name",
        "objective",
        "prompt_tokens",
        "queue_buckets",
        "queue_sum_us",
        "service",
        "statuses",
        "token_buckets",
        "token_sum_us",
        "ttft_buckets",
        "ttft_sum_us",
        "unreadable_events",
    )

    def __init__(self, service: str, name: str) -> None:
        self.service = service
        self.name = name
        self.statuses: dict[int, int] = {}
        self.endings: dict[str, int] = {}
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.estimated = 0
        self.in_flight = 0
        self.unreadable_events = 0
        self.ttft_buckets = [0] * (len(TTFT_BOUNDS_US) + 1)
        self.ttft_sum_us = 0
        self.token_buckets = [0] * (len(TOKEN_BOUNDS_US) + 1)
        self.token_sum_us = 0
        self.burn = Burn()
        self.objective = NO_OBJECTIVE
        self.queue_buckets = [0] * (len(TTFT_BOUNDS_US) + 1)
        self.queue_sum_us = 0

    def answered(self, status: int) -> None:
        """Count one answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def waited(self, us: int) -> None:
        """Count the time that one request waited for an engine; those that did not wait are not counted."""
        self.queue_buckets[bisect_left(TTFT_BOUNDS_US, us)] += 1
        self.queue_sum_us += us

    def token_time(self, us: int) -> None:
        """Count the mean time between two tokens of one stream."""
        self.token_buckets[bisect_left(TOKEN_BOUNDS_US, us)] += 1
        self.token_sum_us += us

    def first_token(self, after_us: int) -> None:
        """Count one time to first token."""
        self.ttft_buckets[bisect_left(TTFT_BOUNDS_US, after_us)] += 1
        self.ttft_sum_us += after_us


class Metrics:
    """Counters that belong to no model."""

    __slots__ = (
        "connections",
        "connections_displaced",
        "connections_refused",
        "continued",
        "defects",
        "limited",
        "records_delivered",
        "records_refused",
        "refused",
        "reload_failures",
        "retries",
        "snapshot_failures",
    )

    def __init__(self) -> None:
        self.connections = 0
        self.connections_displaced = 0
        self.connections_refused = 0
        self.continued = 0
        self.defects = 0
        self.limited: dict[str, int] = {}
        self.refused: dict[str, int] = {}
        self.reload_failures = 0
        self.retries = 0
        self.records_delivered = 0
        self.records_refused = 0
        self.snapshot_failures = 0

    def refuse(self, code: str) -> None:
        """Count a refusal before a model was reached."""
        self.refused[code] = self.refused.get(code, 0) + 1

    def limit(self, reason: str) -> None:
        """Count a 429."""
        self.limited[reason] = self.limited.get(reason, 0) + 1


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _sentence(name: str) -> str:
    return name.replace("_", " ").capitalize() + "."


# Name, kind, sentence, and samples of (suffix of the name, labels without braces, value).
Family = tuple[str, str, str, list[tuple[str, str, float]]]


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> Family:
    return name, kind, text, [("", labels, value) for labels, value in samples]


def _histogram(
    name: str,
    text: str,
    found: Iterable[tuple[str, list[int], int]],
    bounds: tuple[int, ...] = TTFT_BOUNDS_US,
) -> Family:
    """Return a histogram in seconds of (labels, buckets, sum in microseconds)."""
    samples: list[tuple[str, str, float]] = []
    for labels, buckets, sum_us in found:
        total = 0
        for bound_us, count in zip((*bounds, None), buckets, strict=True):
            total += count
            le = "+Inf" if bound_us is None else f"{bound_us / 1e6:g}"
            samples.append(("_bucket", f'{labels},le="{le}"', total))
        samples.append(("_sum", labels, sum_us / 1e6))
        samples.append(("_count", labels, total))
    return _P + name, "histogram", text, samples


def _of_models(models: list[tuple[str, ModelStats]]) -> list[Family]:
    answers = [(f'{of},status="{status}"', n) for of, s in models for status, n in s.statuses.items()]
    endings = [(f'{of},ending="{ending}"', n) for of, s in models for ending, n in s.endings.items()]
    prompt = [(f'{of},kind="prompt"', s.prompt_tokens) for of, s in models]
    completion = [(f'{of},kind="completion"', s.completion_tokens) for of, s in models]
    estimated = [(of, s.estimated) for of, s in models]
    unreadable = [(of, s.unreadable_events) for of, s in models]
    in_flight = [(of, s.in_flight) for of, s in models]
    return [
        _family(_P + "requests_total", "counter", "Answers by model and status.", answers),
        _family(_P + "endings_total", "counter", "Requests by how they ended.", endings),
        _family(_P + "tokens_total", "counter", "Billed tokens.", [*prompt, *completion]),
        _family(
            _P + "estimated_records_total",
            "counter",
            "Records whose tokens the engine did not state.",
            estimated,
        ),
        _family(
            _P + "unreadable_events_total",
            "counter",
            "Engine events that are not what they must be.",
            unreadable,
        ),
        _family(_P + "in_flight", "gauge", "Requests in flight.", in_flight),
        _histogram(
            "time_to_first_token_seconds",
            "From the complete request to the first token of a stream.",
            [(of, s.ttft_buckets, s.ttft_sum_us) for of, s in models],
        ),
        _histogram(
            "time_per_output_token_seconds",
            "Mean time between two tokens, by stream.",
            [(of, s.token_buckets, s.token_sum_us) for of, s in models],
            TOKEN_BOUNDS_US,
        ),
        _histogram(
            "queue_seconds",
            "How long requests waited for an engine, of those that did.",
            [(of, s.queue_buckets, s.queue_sum_us) for of, s in models],
        ),
    ]


def _of_process(metrics: Metrics, gauges: dict[str, float]) -> list[Family]:
    limited = [(f'reason="{reason}"', n) for reason, n in metrics.limited.items()]
    refused = [(f'code="{code}"', n) for code, n in metrics.refused.items()]
    counters: dict[str, int] = {
        "connections_displaced": metrics.connections_displaced,
        "connections_refused": metrics.connections_refused,
        "streams_continued": metrics.continued,
        "defects": metrics.defects,
        "retries": metrics.retries,
        "records_delivered": metrics.records_delivered,
        "records_refused": metrics.records_refused,
        "reload_failures": metrics.reload_failures,
        "snapshot_failures": metrics.snapshot_failures,
    }
    return [
        _family(_P + "limited_total", "counter", "Requests answered 429, by limit.", limited),
        _family(_P + "refused_total", "counter", "Requests refused before a model was reached.", refused),
        *[
            _family(f"{_P}{name}_total", "counter", _sentence(name), [("", n)])
            for name, n in counters.items()
        ],
        *[_family(_P + name, "gauge", _sentence(name), [("", value)]) for name, value in gauges.items()],
    ]


def _of_objectives(models: list[tuple[str, ModelStats]], minute: int) -> list[Family]:
    promised = [(of, s) for of, s in models if s.objective.any]
    timed = [(of, s) for of, s in promised if s.objective.timed]
    available = [(of, s) for of, s in promised if s.objective.available_per_million]
    burn = [
        (f'{of},window="{window}m"', round(s.burn.rate(minute, window, s.objective), 4))
        for of, s in timed
        for window in WINDOWS_MINUTES
    ]
    failing = [
        (f'{of},window="{window}m"', round(s.burn.failure_rate(minute, window, s.objective), 4))
        for of, s in available
        for window in WINDOWS_MINUTES
    ]
    return [
        _family(
            _P + "slo_ttft_seconds", "gauge", "Promised time to first token.",
            [(of, s.objective.ttft_us / 1e6) for of, s in timed if s.objective.ttft_us],
        ),
        _family(
            _P + "slo_token_seconds", "gauge", "Promised time between two tokens.",
            [(of, s.objective.token_us / 1e6) for of, s in timed if s.objective.token_us],
        ),
        _family(
            _P + "slo_target_ratio", "gauge", "Share of the requests that keep the promise.",
            [(of, s.objective.per_million / 1e6) for of, s in timed],
        ),
        _family(
            _P + "slo_availability_target_ratio", "gauge", "Share of the requests that do not fail.",
            [(of, s.objective.available_per_million / 1e6) for of, s in available],
        ),
        _family(
            _P + "slo_requests_total", "counter", "Requests that count for the promise.",
            [(of, s.burn.total) for of, s in promised],
        ),
        _family(
            _P + "slo_missed_total", "counter", "Requests that missed the promise.",
            [(of, s.burn.missed) for of, s in promised],
        ),
        _family(
            _P + "slo_failed_total", "counter", "Requests that failed for a reason not their client's.",
            [(of, s.burn.failed) for of, s in promised],
        ),
        _family(_P + "slo_burn", "gauge", "Missed over allowed; 1 uses up exactly what may be missed.", burn),
        _family(
            _P + "slo_availability_burn", "gauge", "Failed over allowed; 1 uses up exactly what may fail.", failing
        ),
    ]  # fmt: skip


def _of_keys(keys: Iterable[KeyStats]) -> list[Family]:
    named = [(f'tenant="{_escape(s.tenant)}",key="{_escape(s.key)}"', s) for s in keys]
    tokens = [(f'{of},kind="prompt"', s.prompt_tokens) for of, s in named]
    tokens += [(f'{of},kind="completion"', s.completion_tokens) for of, s in named]
    return [
        _family(_P + "key_requests_total", "counter", "Admitted requests.", [(of, s.requests) for of, s in named]),
        _family(_P + "key_limited_total", "counter", "Requests answered 429.", [(of, s.limited) for of, s in named]),
        _family(
            _P + "key_failed_total", "counter", "Requests that failed for a reason not their client's.",
            [(of, s.failed) for of, s in named],
        ),
        _family(_P + "key_tokens_total", "counter", "Billed tokens.", tokens),
        _family(
            _P + "key_first_token_seconds_sum", "counter", "Time to first token of streams, added up.",
            [(of, s.ttft_sum_us / 1e6) for of, s in named],
        ),
        _family(
            _P + "key_first_token_seconds_count", "counter", "Streams that had a first token.",
            [(of, s.ttft_count) for of, s in named],
        ),
    ]  # fmt: skip


def families(
    metrics: Metrics,
    stats: Iterable[ModelStats],
    gauges: dict[str, float],
    *,
    keys: Iterable[KeyStats] = (),
    minute: int = 0,
) -> list[Family]:
    """Return everything that one process counted; ``gauges`` are name (without prefix) to value.

    ``minute`` is the current one of the monotonic clock.
    """
    models = [(f'service="{_escape(s.service)}",model="{_escape(s.name)}"', s) for s in stats]
    return [
        *_of_models(models),
        *_of_objectives(models, minute),
        *_of_keys(keys),
        *_of_process(metrics, gauges),
    ]


def render(processes: Mapping[str, list[Family]]) -> bytes:
    """Return the text exposition format 0.0.4 of what processes counted.

    Each is shown under its name as the label ``process``; the name of one that is alone is empty.
    """
    merged: dict[str, tuple[str, str, list[str]]] = {}
    for process, found in processes.items():
        own = f'process="{process}"' if process else ""
        for name, kind, text, samples in found:
            lines = merged.setdefault(name, (kind, text, []))[2]
            for suffix, labels, value in samples:
                both = ",".join(part for part in (own, labels) if part)
                shown = (
                    f"{value:.6f}"
                    if suffix == "_sum"
                    else f"{value:g}"
                    if isinstance(value, float)
                    else value
                )
                lines.append(f"{name}{suffix}{f'{{{both}}}' if both else ''} {shown}")
    return "".join(
        f"# HELP {name} {text}\n# TYPE {name} {kind}\n" + "".join(line + "\n" for line in lines)
        for name, (kind, text, lines) in merged.items()
    ).encode()


class Board:
    """Where the processes of one port put what they counted, so that any of them can show all of it.

    One anonymous file for each; it begins with length and checksum, because a reader may meet a writer.
    """

    def __init__(self, processes: int) -> None:
        self._handles = [os.memfd_create(f"metrics-{k}", os.MFD_CLOEXEC) for k in range(processes)]

    def put(self, process: int, found: list[Family]) -> None:
        """Replace what a process shows."""
        raw = orjson.dumps(found)
        os.pwrite(self._handles[process], _HEADER.pack(len(raw), zlib.crc32(raw)) + raw, 0)

    def all(self) -> dict[str, list[Family]]:
        """Return what each process put there last; one that is being written is read again, then left out."""
        shown: dict[str, list[Family]] = {}
        for process, handle in enumerate(self._handles):
            for _ in range(_READS):
                raw = os.pread(handle, os.fstat(handle).st_size, 0)
                if len(raw) <= _HEADER.size:
                    break
                length, checksum = _HEADER.unpack_from(raw)
                body = raw[_HEADER.size : _HEADER.size + length]
                if zlib.crc32(body) == checksum:
                    shown[str(process)] = orjson.loads(body)
                    break
        return shown
