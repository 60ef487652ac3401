"""A limit on everything: every list, body, retry, queue, step and state is bounded by a number here."""

from datetime import timedelta

# Lists and bodies of the API.
PAGE_DEFAULT = 100
PAGE_MAX = 1_000
BODY_BYTES_MAX = 1 << 20
JSON_DEPTH_MAX = 32
NAME_CHARACTERS_MAX = 63
TEXT_CHARACTERS_MAX = 2_000
WATCH_EVENTS_BATCH_MAX = 500
WATCH_CONNECTION_TIME = timedelta(minutes=30)

# Orders.
DEVICES_PER_SERVICE_MAX = 576
DOMAINS_PER_SERVICE_MAX = 8
REPLICAS_PER_SERVICE_MAX = 16
IDEMPOTENCY_KEY_CHARACTERS_MAX = 128
IDEMPOTENCY_KEY_LIFE = timedelta(hours=24)

# The engine.
ENGINE_BATCH = 256
LEASE_TIME = timedelta(seconds=30)
RETRY_FIRST = timedelta(milliseconds=250)
RETRY_MAX = timedelta(seconds=30)
PLACES_TRIED_MAX = 3
START_DEADLINE = timedelta(minutes=15)
RELEASE_DEADLINE = timedelta(minutes=15)
QUEUED_RECHECK = timedelta(seconds=2)
IDLE_TICK_SECONDS = 1.0
NODE_TICK_SECONDS = 1.0
CLASSES_TICK_SECONDS = 60.0

# Agents.
AGENT_PULL_BATCH = 512
AGENT_LONG_POLL_SECONDS = 20.0
AGENT_HEARTBEAT_SECONDS = 5.0
AGENT_SILENT_AFTER = timedelta(seconds=30)
AGENT_CERTIFICATE_LIFE = timedelta(hours=24)
JOIN_TOKEN_LIFE_MAX = timedelta(days=7)

# Keys and sessions.
API_KEY_LIFE_MAX = timedelta(days=366 * 2)
SESSION_LIFE = timedelta(hours=12)
SESSION_IDLE = timedelta(minutes=30)  # of the console; moved on by use, in steps of SESSION_IDLE_STEP
SESSION_IDLE_STEP = timedelta(minutes=1)
PROOF_LIFE = timedelta(minutes=10)  # dangerous actions need a password this fresh
RECOVERY_CODES = 8
PASSWORD_CHARACTERS_MIN = 12
PASSWORD_CHARACTERS_MAX = 256
LOGIN_FAILURES_PER_MINUTE_MAX = 10

# Tokens.
USAGE_RECORDS_BATCH_MAX = 1_000

# Money.
RATED_GROUPS_MAX = 100_000
PRICES_PER_BOOK_MAX = 2_000
INVOICE_TICK_SECONDS = 3_600.0
INVOICE_FINAL_AFTER = timedelta(days=3)

# Explanations.
COUNTERFACTUALS_MAX = 4
CANDIDATES_SHOWN_MAX = 8

# Preemption.
YIELDING_CONSIDERED_MAX = 256
PREEMPTING_ORDERS_PER_BATCH_MAX = 8

# How long what is no part of the books is kept after its end, and how much is removed at a time.
SESSION_KEPT = timedelta(days=1)
JOIN_TOKEN_KEPT = timedelta(days=30)
DECISION_KEPT = timedelta(days=90)
EVENT_KEPT = timedelta(days=400)
AUDIT_KEPT = timedelta(days=400)
RETENTION_BATCH = 5_000
RETENTION_WINDOWS_MAX = 20
RETENTION_TICK_SECONDS = 3_600.0

# Packing.
PACKING_STATES_KEPT_MAX = 20_000
CUTTING_STOCK_STEPS_MAX = 500
WAITING_MAX = 1_000_000
MIGRATIONS_PER_REQUEST_MAX = 8
MIGRATION_NODES_TRIED_MAX = 8
MIGRATIONS_OF_FLEET_MAX = 0.05  # of the devices, over a replay

# The twin.
TRACE_BYTES_MAX = 1 << 28
TRACE_LINES_MAX = 2_000_000
TWIN_SEEDS_MAX = 100
TWIN_COPIES_MAX = 64
TWIN_ARRIVALS_MAX = 5_000_000

# The twin's studies.
TWIN_FILE_BYTES_MAX = 1 << 30
TWIN_LINES_MAX = 5_000_000
TWIN_SECONDS_MAX = 1 << 40
TWIN_NODES_MAX = 100_000
TWIN_GPUS_PER_NODE_MAX = 1_024
TWIN_QUEUES_MAX = 10_000
TWIN_SERIES_POINTS_MAX = 240
