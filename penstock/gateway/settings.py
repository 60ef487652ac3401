"""Every bound of the gateway in one place: sizes in bytes, times in seconds, counts as they are named."""

from dataclasses import dataclass

from penstock.base import limits


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits and time limits of one gateway process; the defaults are the documented ones."""

    # What a client may send.
    body_bytes_max: int = limits.BODY_BYTES_MAX
    head_bytes_max: int = 32 << 10  # names and values of all headers, and 32 for each
    connections_max: int = 10_000
    pipeline_max: int = 32  # requests that wait on one connection behind the one in flight
    backlog_bytes_max: int = 64 << 10  # unparsed bytes that wait there
    head_seconds: float = 10.0  # first byte of a request to its last header
    body_seconds: float = 30.0  # last header to last byte of the body
    idle_seconds: float = 75.0  # keep-alive between requests
    stall_seconds: float = 60.0  # a client that reads nothing of its answer
    linger_seconds: float = 2.0  # reading on after an error answer, so that it is not lost to a reset

    # Engines.
    connect_seconds: float = 5.0
    engine_idle_seconds: float = 300.0  # no byte from the engine: first token or between two
    request_seconds: float = 3_600.0  # an engine that never ends
    cancel_seconds: float = 2.0  # from the cancel to the final usage, then the connection is cut
    leave_seconds: float = 0.25  # from half-closing an engine's connection to cutting it
    cancel_retry_seconds: float = 0.25
    engine_keepalive_seconds: float = 30.0
    engine_down_seconds: float = 1.0  # a failed engine is the last choice for this long
    engine_down_most_seconds: float = 2.0  # it doubles with each failure in a row, up to this
    queue_seconds: float = 30.0  # waiting for an engine that has a free slot
    hold_seconds: float = 60.0  # waiting for the first replica of an endpoint that sleeps
    hold_bytes_max: int = 64 << 20  # of requests that wait for one, in this process
    queue_max: int = 1_024  # requests that wait for the engines of one model
    prefix_blocks_max: int = 32_768  # blocks of prompts' beginnings that are remembered for one model
    in_flight_per_engine_max: int = 4_096
    attempts_max: int = 4
    event_bytes_max: int = 1 << 20  # one server-sent event
    answer_bytes_max: int = 16 << 20  # one answer that is not streamed

    # Token limits: what an answer reserves when the client states no bound.
    completion_tokens_default: int = 1_024
    limit_rows_max: int = 8_192  # keys, projects, tenants and models with limits; the table has a fixed size

    # The usage journal.
    journal_bytes_max: int = 256 << 20
    segment_bytes_max: int = 1 << 20
    sync_seconds: float = 0.25
    checkpoint_seconds: float = 1.0
    seal_seconds: float = 1.0  # how long a record may wait before its delivery begins

    # Stopping.
    drain_seconds: float = 30.0
    deliver_at_stop_seconds: float = 3.0
