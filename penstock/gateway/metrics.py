"""Counters of the data plane and their Prometheus text; counting is an addition, formatting happens on scrape."""

from bisect import bisect_left
from collections.abc import Iterable

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


class ModelStats:
    """What happened to one model of one service; survives snapshots."""

    __slots__ = (
        "completion_tokens",
        "endings",
        "estimated",
        "in_flight",
        "name",
        "prompt_tokens",
        "service",
        "statuses",
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

    def answered(self, status: int) -> None:
        """Count one answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def first_token(self, after_us: int) -> None:
        """Count one time to first token."""
        self.ttft_buckets[bisect_left(TTFT_BOUNDS_US, after_us)] += 1
        self.ttft_sum_us += after_us


class Metrics:
    """Counters that belong to no model."""

    __slots__ = (
        "connections",
        "connections_refused",
        "defects",
        "limited",
        "records_delivered",
        "records_refused",
        "refused",
        "retries",
        "snapshot_failures",
    )

    def __init__(self) -> None:
        self.connections = 0
        self.connections_refused = 0
        self.defects = 0
        self.limited: dict[str, int] = {}
        self.refused: dict[str, int] = {}
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


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> str:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    lines += [
        f"{name}{labels} {value:g}" if isinstance(value, float) else f"{name}{labels} {value}"
        for labels, value in samples
    ]
    return "\n".join(lines) + "\n"


def _ttft(models: list[tuple[str, ModelStats]]) -> str:
    name = "penstock_gateway_time_to_first_token_seconds"
    lines = [
        f"# HELP {name} From the complete request to the first token of a stream.",
        f"# TYPE {name} histogram",
    ]
    for labels, stats in models:
        total = 0
        for bound_us, count in zip((*TTFT_BOUNDS_US, None), stats.ttft_buckets, strict=True):
            total += count
            le = "+Inf" if bound_us is None else f"{bound_us / 1e6:g}"
            lines.append(f'{name}_bucket{{{labels},le="{le}"}} {total}')
        lines.append(f"{name}_sum{{{labels}}} {stats.ttft_sum_us / 1e6:.6f}")
        lines.append(f"{name}_count{{{labels}}} {total}")
    return "\n".join(lines) + "\n"


def render(metrics: Metrics, stats: Iterable[ModelStats], gauges: dict[str, float]) -> bytes:
    """Return the text exposition format 0.0.4; ``gauges`` are name (without prefix) to value."""
    models = [(f'service="{_escape(s.service)}",model="{_escape(s.name)}"', s) for s in stats]
    p = "penstock_gateway_"
    parts = [
        _family(
            p + "requests_total",
            "counter",
            "Answers by model and status.",
            [
                (f'{{{labels},status="{status}"}}', n)
                for labels, s in models
                for status, n in s.statuses.items()
            ],
        ),
        _family(
            p + "endings_total",
            "counter",
            "Recorded requests by how they ended.",
            [
                (f'{{{labels},ending="{ending}"}}', n)
                for labels, s in models
                for ending, n in s.endings.items()
            ],
        ),
        _family(
            p + "tokens_total",
            "counter",
            "Billed tokens.",
            [
                sample
                for labels, s in models
                for sample in (
                    (f'{{{labels},kind="prompt"}}', s.prompt_tokens),
                    (f'{{{labels},kind="completion"}}', s.completion_tokens),
                )
            ],
        ),
        _family(
            p + "estimated_records_total",
            "counter",
            "Records whose tokens the engine did not state.",
            [(f"{{{labels}}}", s.estimated) for labels, s in models],
        ),
        _family(
            p + "unreadable_events_total",
            "counter",
            "Stream events of engines that are not what the API promises.",
            [(f"{{{labels}}}", s.unreadable_events) for labels, s in models],
        ),
        _family(
            p + "in_flight",
            "gauge",
            "Requests in flight.",
            [(f"{{{labels}}}", s.in_flight) for labels, s in models],
        ),
        _ttft(models),
        _family(
            p + "limited_total",
            "counter",
            "Requests answered 429, by limit.",
            [(f'{{reason="{reason}"}}', n) for reason, n in metrics.limited.items()],
        ),
        _family(
            p + "refused_total",
            "counter",
            "Requests refused before a model was reached, by code.",
            [(f'{{code="{code}"}}', n) for code, n in metrics.refused.items()],
        ),
    ]
    plain = (
        "connections_refused",
        "defects",
        "retries",
        "records_delivered",
        "records_refused",
        "snapshot_failures",
    )
    parts += [
        _family(f"{p}{name}_total", "counter", _sentence(name), [("", getattr(metrics, name))])
        for name in plain
    ]
    parts += [_family(p + name, "gauge", _sentence(name), [("", value)]) for name, value in gauges.items()]
    return "".join(parts).encode()
