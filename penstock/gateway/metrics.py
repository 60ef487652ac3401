"""Counters of the data plane and their Prometheus text; counting is an addition, formatting happens on scrape."""

from bisect import bisect_left
from collections.abc import Iterable

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
    name = _P + "time_to_first_token_seconds"
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


def _of_models(models: list[tuple[str, ModelStats]]) -> list[str]:
    answers = [(f'{{{of},status="{status}"}}', n) for of, s in models for status, n in s.statuses.items()]
    endings = [(f'{{{of},ending="{ending}"}}', n) for of, s in models for ending, n in s.endings.items()]
    prompt = [(f'{{{of},kind="prompt"}}', s.prompt_tokens) for of, s in models]
    completion = [(f'{{{of},kind="completion"}}', s.completion_tokens) for of, s in models]
    estimated = [(f"{{{of}}}", s.estimated) for of, s in models]
    unreadable = [(f"{{{of}}}", s.unreadable_events) for of, s in models]
    in_flight = [(f"{{{of}}}", s.in_flight) for of, s in models]
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
        _ttft(models),
    ]


def _of_process(metrics: Metrics, gauges: dict[str, float]) -> list[str]:
    limited = [(f'{{reason="{reason}"}}', n) for reason, n in metrics.limited.items()]
    refused = [(f'{{code="{code}"}}', n) for code, n in metrics.refused.items()]
    counters: dict[str, int] = {
        "connections_refused": metrics.connections_refused,
        "defects": metrics.defects,
        "retries": metrics.retries,
        "records_delivered": metrics.records_delivered,
        "records_refused": metrics.records_refused,
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


def render(metrics: Metrics, stats: Iterable[ModelStats], gauges: dict[str, float]) -> bytes:
    """Return the text exposition format 0.0.4; ``gauges`` are name (without prefix) to value."""
    models = [(f'service="{_escape(s.service)}",model="{_escape(s.name)}"', s) for s in stats]
    return "".join([*_of_models(models), *_of_process(metrics, gauges)]).encode()
