"""The text that Prometheus reads is read here by Prometheus' own parser."""

import os

from prometheus_client.parser import text_string_to_metric_families

from penstock.gateway.metrics import TTFT_BOUNDS_US, Board, Metrics, ModelStats, families, render


def counted(text: bytes) -> dict[tuple[object, ...], float]:
    return {
        (sample.name.removeprefix("penstock_gateway_"), *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_everything_counted_is_in_the_text() -> None:
    stats = ModelStats("svc", 'a "quoted"\\ name\n')
    for status in (200, 200, 429):
        stats.answered(status)
    stats.endings["stop"] = 2
    stats.prompt_tokens, stats.completion_tokens = 10, 20
    for after in (1_000, TTFT_BOUNDS_US[0], TTFT_BOUNDS_US[0] + 1, 10**9):
        stats.first_token(after)
    metrics = Metrics()
    metrics.limit("requests")
    metrics.refuse("invalid_api_key")
    metrics.retries = 3
    found = families(metrics, [stats], {"connections": 4, "snapshot_age_seconds": 0.25})
    samples = counted(render({"": found}))
    own = (("model", stats.name), ("service", "svc"))
    assert samples["requests_total", *sorted((*own, ("status", "200")))] == 2
    assert samples["tokens_total", ("kind", "completion"), *own] == 20
    buckets = [
        samples["time_to_first_token_seconds_bucket", ("le", le), *own]
        for le in ("0.005", "0.01", "30", "+Inf")
    ]
    assert buckets == [2, 3, 3, 4]
    assert samples["time_to_first_token_seconds_count", *own] == 4
    assert samples["limited_total", ("reason", "requests")] == 1
    assert samples["refused_total", ("code", "invalid_api_key")] == 1
    assert samples["retries_total",] == 3
    assert (samples["connections",], samples["snapshot_age_seconds",]) == (4, 0.25)


def test_a_board_shows_all_processes_and_no_half_written_one() -> None:
    board = Board(3)
    for process in (0, 1):
        metrics = Metrics()
        metrics.retries = process + 1
        board.put(process, families(metrics, [ModelStats("svc", "m")], {"connections": 5}))
    samples = counted(render(board.all()))
    assert [samples["retries_total", ("process", name)] for name in "01"] == [1, 2]
    assert samples["in_flight", ("model", "m"), ("process", "1"), ("service", "svc")] == 0
    os.pwrite(board._handles[1], b"\xff", 20)
    assert list(board.all()) == ["0"]
