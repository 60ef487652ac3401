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
POWER_TRIES_MAX = 8  # plans of one order that overdraw a power budget, each placed again around it
START_DEADLINE = timedelta(minutes=15)
RELEASE_DEADLINE = timedelta(minutes=15)
QUEUED_RECHECK = timedelta(seconds=2)
IDLE_TICK_SECONDS = 1.0
NODE_TICK_SECONDS = 1.0
POWER_TICK_SECONDS = 2.0
POWER_REPORT_SECONDS = 2.0
POWER_REPORT_NODES_MAX = 20_000
SENSOR_REPORT_SECONDS = 30.0
SENSORS_PER_REPORT_MAX = 4_096
HOST_CHECK_SECONDS = 20.0
HOST_CHECK_PATIENCE_SECONDS = 10.0  # a part of a host that cannot be looked at within that is bad
HOST_CHECK_FRESH = timedelta(seconds=60)
HOST_CHECKS_MAX = 32
HOST_LOG_SECONDS = 5.0
HOST_LOG_RING_LINES = 200  # what an agent remembers of its own log until it is told
HOST_LOG_CHARACTERS_MAX = 1_000
HOST_LOG_REPORT_LINES_MAX = 200
HOST_LOG_REPORT_BYTES = 32 << 10  # shared equally by the logs of a host
HOST_LOG_BACKLOG_BYTES = 256 << 10  # of a file further behind than that only the end is read
HOST_LOG_KEPT_LINES = 1_000  # of each log of a node
HOST_LOG_KEPT = timedelta(days=7)
CLOCK_WARNING_SECONDS, CLOCK_BAD_SECONDS = 2.0, 30.0
READING_FRESH = timedelta(minutes=20)  # older ones are no colour; what does not change is told again sooner
SLEEP_LOOK = timedelta(seconds=30)  # how often nodes are put to sleep by policy
SLEEP_BATCH = 64
CLASSES_TICK_SECONDS = 60.0

# Agents.
AGENT_PULL_BATCH = 512
OBSERVED_DETAIL_BYTES_MAX = 16 << 10
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
OIDC_SECONDS = 10.0  # for each answer of an identity provider
SIGN_IN_LIFE = timedelta(minutes=15)  # from leaving for the provider to coming back
IDENTITIES_PER_USER_MAX = 8

# Models.
MODEL_FILE_HASHED_BYTES_MAX = 8 << 30
LICENCE_CHARACTERS_MAX = 65_536
WEIGHTS_FILES_MAX = 1_024
WEIGHTS_COPIES_PER_NODE_MAX = 1_024
WEIGHTS_FETCHES_AT_ONCE = 2
WEIGHTS_REPORT_SECONDS = 15.0
WEIGHTS_RETRY_SECONDS = 10.0
WEIGHTS_STALL_SECONDS = 30.0  # without a byte, after which a fetch is begun again where it was
ADAPTERS_PER_SERVICE_MAX = 16

# Secrets of projects.
SECRETS_PER_PROJECT_MAX = 100
SECRET_CHARACTERS_MAX = 4_096

# Files and batches.
FILE_BYTES_MAX = 32 << 20
FILE_LIFE = timedelta(days=30)
FILE_EXPIRY_INTERVAL = timedelta(minutes=10)
BATCH_LIFE = timedelta(hours=24)
BATCH_LINES_MAX = 10_000
BATCH_LINE_BYTES_MAX = 1 << 20
BATCH_PROBLEMS_MAX = 50
BATCH_CUSTOM_ID_CHARACTERS_MAX = 128
BATCH_ANSWER_BYTES_MAX = 1 << 20
BATCH_OUTPUT_BYTES_MAX = 128 << 20
BATCH_REQUEST_SECONDS = 120.0
BATCH_LEASE_TIME = timedelta(minutes=3)
BATCH_TICK_SECONDS = 1.0
BATCHES_PER_TURN = 2
BATCH_LINES_PER_TURN = 16
BATCH_PARALLEL = 4
BATCH_TRIES_MAX = 5
BATCHES_PER_PROJECT_MAX = 20

# Files and batches that gateways pass on, each process.
FORWARDS_AT_ONCE_MAX = 64
FORWARD_STALL_SECONDS = 60.0
FORWARD_BODY_SECONDS = 600.0  # for the whole body

# Tokens.
USAGE_RECORDS_BATCH_MAX = 1_000

# What gateways say of endpoints whose replicas follow the load, and replicas that are taken away.
SIGNALS_BATCH_MAX = 500
SIGNAL_UPSTREAMS_MAX = 256
GATEWAY_SILENT_AFTER = timedelta(seconds=15)
DRAIN_GRACE = timedelta(seconds=1)  # until every gateway must have said that it asks a replica no more
DRAIN_DEADLINE = timedelta(minutes=10)
DEMAND_TIME = timedelta(seconds=90)  # a call of the factory's own takes less
GATEWAY_FORGOTTEN_AFTER = timedelta(days=1)

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
DURATIONS_LEARNT_MAX = 500  # of ended services, from which durations are predicted
SHARES_FIRST_MAX = 64  # waiting orders of tenants with a share that join a batch
PREEMPTING_ORDERS_PER_BATCH_MAX = 8

# The calendar.
BOOKING_AHEAD_MAX = timedelta(days=90)
BOOKING_TIME_MIN = timedelta(minutes=1)
BOOKING_TIME_MAX = timedelta(days=30)
ORDER_TIME_MAX = timedelta(days=366)  # of an order on demand that says when it ends
BOOKING_LEAD = timedelta(minutes=1)  # what yields is asked to go so long before a booking begins
MAINTENANCE_LEAD = timedelta(minutes=10)
BOOKING_RECHECK = timedelta(seconds=5)
BOOKING_TRIES = 3
NO_SHOW_AFTER_SECONDS = 3_600
BOOKINGS_PER_PROJECT_MAX = 200
RESERVATIONS_BATCH = 32
RESERVATION_TICK_SECONDS = 1.0
RESERVATION_PIECES_SHOWN_MAX = 1_000
EARLIEST_STARTS_MAX = 512
EARLIEST_STARTS_TRIED_MAX = 24
MAINTENANCE_TARGETS_MAX = 256
MAINTENANCE_SHOWN_MAX = 500
CALENDAR_TIME_DEFAULT = timedelta(days=7)
CALENDAR_ITEMS_MAX = 2_000
RELEASE_GRACE_SECONDS_MAX = 86_400

# How long what is no part of the books is kept after its end, and how much is removed at a time.
SESSION_KEPT = timedelta(days=1)
JOIN_TOKEN_KEPT = timedelta(days=30)
DECISION_KEPT = timedelta(days=90)
OBJECTIVE_KEPT = timedelta(days=31)
EVENT_KEPT = timedelta(days=400)
AUDIT_KEPT = timedelta(days=400)
RETENTION_BATCH = 5_000
RETENTION_WINDOWS_MAX = 20
RETENTION_TICK_SECONDS = 3_600.0

ROWS_PER_STATEMENT_MAX = 5_000  # rows that one statement writes

# Packing.
PACKING_STATES_KEPT_MAX = 20_000
CUTTING_STOCK_STEPS_MAX = 500
OUTLOOK_ORDERS_MAX = 1_000  # the latest orders, from which those to come are expected
OUTLOOK_SHAPES_MAX = 128  # distinct orders among them, the latest first
OUTLOOK_EVERY_ORDERS = 64  # after so many new orders the outlook is made anew
OUTLOOK_SCORERS_MAX = 256
LOSSES_PER_CLASS_MAX = 64  # vectors over the nodes of a class, 16 bytes a node each
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
# Knowledge bases and their documents.
DOCUMENT_BYTES_MAX = 16 << 20
DOCUMENT_CHARACTERS_MAX = 4_000_000
DOCUMENT_PAGES_MAX = 2_000
DOCUMENT_NAME_CHARACTERS_MAX = 254
HEADING_CHARACTERS_MAX = 300
UNPACKED_BYTES_MAX = 128 << 20
ARCHIVE_ENTRIES_MAX = 5_000
READER_MEMORY_BYTES = 1 << 30
READER_SECONDS = 30.0
CHUNKS_PER_DOCUMENT_MAX = 20_000
KNOWLEDGE_BASES_PER_PROJECT_MAX = 100
KNOWLEDGE_BATCH_CHUNKS = 32
KNOWLEDGE_BATCHES_PER_TURN = 8
KNOWLEDGE_DOCUMENTS_PER_TURN = 4
KNOWLEDGE_TICK_SECONDS = 1.0
KNOWLEDGE_LEASE_TIME = timedelta(minutes=3)
URLS_PER_REQUEST_MAX = 100
URL_CHARACTERS_MAX = 2_000
URL_REDIRECTS_MAX = 3
URL_SECONDS = 20.0
QUERY_CHARACTERS_MAX = 2_000
CONTEXT_UNKNOWN_TOKENS = 4_096  # what a model elsewhere is taken to read at once, its answer included
PASSAGES_DEFAULT = 8
SEARCHES_AT_ONCE_MAX = 8  # of words, beside the making of the question's vector
PASSAGES_MAX = 50
PASSAGES_PER_RANKING = 50
PASSAGES_RERANKED = 30  # at least, and twice as many as are asked for
ANSWER_TOKENS_MAX = 2_048
GROUNDED_QUESTION_CHARACTERS_MAX = 100_000
GROUNDINGS_AT_ONCE_MAX = 8
# A request with a key or a model that this gateway does not know yet waits so long for the news of it.
NEWCOMER_SECONDS = 1.0
NEWCOMERS_HELD_MAX = 256
STRANGER_SECONDS = 30.0
STRANGERS_MAX = 10_000
# How many times another tenant's share one may have, where requests wait for an engine.
TENANT_WEIGHT_MAX = 1_000
GROUNDINGS_WAITING_MAX = 64
GROUNDING_SECONDS = 15.0
ANSWER_SECONDS = 120.0
EMBEDDING_SECONDS = 60.0

# Networks of tenants.
NETWORKS_PER_PROJECT_MAX = 50
SUBNETS_PER_NETWORK_MAX = 64
PORTS_PER_NETWORK_MAX = 4_096
SECURITY_GROUPS_PER_NETWORK_MAX = 128
RULES_PER_GROUP_MAX = 128
BINDINGS_PER_NETWORK_MAX = 4_096
ACL_ENTRIES_MAX = 64
DHCP_OPTIONS_MAX = 32
DNS_RECORDS_PER_NETWORK_MAX = 4_096
PUBLIC_RECORDS_PER_PROJECT_MAX = 1_000
PUBLIC_DNS_SECONDS = 2.0  # how soon the world is answered what changed
DNS_FORWARDERS_MAX = 4
ROUTES_PER_NETWORK_MAX = 64
PEERINGS_PER_NETWORK_MAX = 16
FLOATING_ADDRESSES_PER_PROJECT_MAX = 256
FABRIC_PARTITIONS_PER_PROJECT_MAX = 64
NODES_PER_PARTITION_MAX = 4_096
FABRIC_TICK_SECONDS = 1.0
FABRIC_PARTITIONS_PER_TURN = 32
FABRIC_LOOK = timedelta(
    seconds=5
)  # how often everything is looked at, whether or not anybody said that it changed
FABRIC_SETTLE = timedelta(seconds=1)  # how often to look whether a fabric manager has done what it was told
FABRIC_RETRY_FIRST = timedelta(seconds=1)
FABRIC_RETRY_MAX = timedelta(seconds=60)
NETWORK_TICK_SECONDS = 1.0
LOAD_BALANCERS_PER_NETWORK_MAX = 32
LISTENERS_PER_BALANCER_MAX = 16
MEMBERS_PER_BALANCER_MAX = 64
BALANCERS_PER_TURN = 32
BALANCER_TICK_SECONDS = 1.0
BALANCER_SETTLE = timedelta(seconds=1)  # how often to look whether a host has done what it was told
BALANCER_FAILED_AGAIN = timedelta(seconds=15)
BALANCER_SERIES_MAX = 10_000  # in one answer of counters
BALANCER_CONNECTIONS_MAX = 8_192
CERTIFICATES_PER_PROJECT_MAX = 100
CERTIFICATE_NAMES_MAX = 100
CERTIFICATE_CHAIN_MAX = 5
CERTIFICATE_CHAIN_CHARACTERS_MAX = 64 << 10
PRIVATE_KEY_CHARACTERS_MAX = 4 << 10  # RSA of 4,096 bits has 3,300; longer ones take seconds to check
CERTIFICATE_LIFE_DAYS_DEFAULT = 30
CERTIFICATE_LIFE_DAYS_MAX = 90
CERTIFICATE_TICK_SECONDS = 30.0
CERTIFICATES_PER_TURN = 64
CERTIFICATE_WARNED_BEFORE = timedelta(days=14)  # an uploaded one ends
CERTIFICATE_ROTATED_AGAIN = timedelta(hours=1)  # after a rotation that failed
REVOKED_SERIALS_MAX = 100_000  # in one list; a project that revokes more within 90 days waits
NETWORKS_PER_TURN = 32
FLOW_REPORT_SECONDS = 5.0
FLOWS_PER_REPORT_MAX = 500  # of one host, of all its networks together
FLOWS_PER_NETWORK_MAX = 10_000  # kept, the newest
FLOW_KEPT = timedelta(days=7)
PORT_COUNT_SECONDS = 15.0  # how old what a port counts may become
PORT_COUNTS_PER_REPORT_MAX = 2_000
PORT_SERIES_MAX = 20_000  # ports in one answer of counters
PORT_SERIES_FRESH = timedelta(seconds=60)  # what is older is left out
# Virtual machines, their images and volumes.
VM_VCPUS_MAX = 256
VM_MEMORY_MIB_MAX = 4 << 20
VM_DISK_GIB_MAX = 16 << 10
VM_NICS_MAX = 8
VM_GROUPS_MAX = 16
VM_DEVICES_MAX = 16
VM_VOLUMES_MAX = 8
VM_SNAPSHOTS_MAX = 16
VM_EXPORTS_MAX = 4  # images that are made of one machine at a time
VM_EXPORT_ANSWER_SECONDS = 600.0
VM_SSH_KEYS_MAX = 16
VM_TAGS_MAX = 32
VM_PROGRAM_SECONDS = 600.0
VM_JUDGE_MEMORY_BYTES = (
    512 << 20
)  # address space of what reads a foreign image; 64 GiB in clusters of 4 KiB need 150 MiB
VM_JUDGE_CPU_SECONDS = 60
VM_JUDGE_SECONDS = 300.0
VOLUME_GIB_MAX = 16 << 10
VOLUMES_PER_PROJECT_MAX = 1_000
VOLUME_SNAPSHOTS_MAX = 16
VOLUME_RETRY_SECONDS = 1.0
VOLUME_SILENT_SECONDS = 10.0  # after which storage that says nothing counts as silent
VOLUME_TICK_SECONDS = 1.0
VOLUME_METER_SECONDS = 300
VOLUME_USAGE_DAYS_MAX = 366
VM_STOP_SECONDS = 60.0  # for a guest to shut down before its power is cut
VM_COPY_STILL_SECONDS = 300.0  # in which nothing of a disk's copy goes, after which it is given up
VM_MOVE_PORT = 49_152  # the first of those that libvirt moves machines by (migration_port_min of qemu.conf)
VM_MOVE_PORTS = 64  # from there on
VM_MOVE_OPEN_SECONDS = 5.0  # for QEMU's own connections to be answered, while its guest stands still
VM_MOVE_STILL_SECONDS = 300.0  # in which nothing of a machine goes, after which its move is given up
VM_MOVE_WATCH_SECONDS = 1.0
VM_MOVE_KNOCK_SECONDS = 10.0  # for the other host to answer there, before a machine is touched
VM_PROBE_SECONDS = 10.0
VM_DISK_METERS_SECONDS = 1.0  # that an answer about disks is waited for before the last one is told
VM_RETRY_SECONDS = 5.0
VM_ROOM_TO_GO_ON_BYTES = 32 << 20  # free on a host before a machine goes on whose disk could not be written
VM_ROOM_FOR_SEED_BYTES = 1 << 20
SSH_KEY_CHARACTERS_MAX = 8_192
USER_DATA_BYTES_MAX = 64 << 10
VM_ORDER_BYTES_MAX = (
    4 << 20
)  # so that user data that is too long is refused by the field's name, not as a body
IMAGE_BYTES_MAX = 64 << 30
SSH_KEYS_PER_PROJECT_MAX = 200
IMAGES_PER_PROJECT_MAX = 200
IMAGE_FETCHES_AT_ONCE = 4  # of one replica
IMAGE_FETCHES_PER_TENANT = 2  # of the whole factory, so that one tenant's slow server holds up nobody else
IMAGE_FETCH_ATTEMPTS = 6  # in a row that bring no byte more
IMAGE_FETCH_DEADLINE = timedelta(hours=6)
IMAGE_FETCH_LEASE = timedelta(seconds=60)
IMAGE_PROGRESS_SECONDS = 1.0
IMAGE_TICK_SECONDS = 2.0
IMAGE_SHARES_MAX = 100
CONSOLE_BYTES_MAX = 4 << 20
CONSOLE_PIECE_BYTES = 64 << 10
CONSOLE_KEPT = timedelta(days=30)
CONSOLE_READ_BYTES_MAX = 1 << 20
CONSOLE_SESSIONS_PER_VM_MAX = 2
CONSOLE_SESSIONS_PER_PROCESS_MAX = 32
CONSOLE_SESSION_TIME = timedelta(hours=8)
CONSOLE_IDLE = timedelta(minutes=15)  # without a key
CONSOLE_LOST_AFTER = timedelta(seconds=20)  # of silence of the process that carries a session
CONSOLE_FLUSH_LOOKS = 100  # for a host to take what was typed just before somebody left
CONSOLE_FLUSH_LOOK_SECONDS = 0.05
CONSOLE_LOST_TICK_SECONDS = 10.0
CONSOLE_LOOK_SECONDS = 1.0  # how long a look for what is new may take; each is a sign of life
CONSOLE_ALLOWED_SECONDS = 30.0  # how often it is asked again whether somebody may
CONSOLE_MESSAGE_BYTES_MAX = 4 << 10
CONSOLE_TYPED_BYTES_PER_SECOND = 4 << 10
CONSOLE_TYPED_WAITING_BYTES_MAX = 16 << 10  # of keys that the host has not taken yet
CONSOLE_SHOWN_BYTES_PER_SECOND = 256 << 10
CONSOLE_SHOWN_AT_FIRST_BYTES = 2 << 10
VM_TICK_SECONDS = 1.0
VM_STARTS_AT_ONCE = 3  # on a small host, and not more than it has processors
VM_STARTS_AT_ONCE_MAX = 16  # on any: libvirtd has 20 threads that work
VM_STARTS_PER_CONNECTION = 4  # libvirtd serves 5 calls of a client at a time
VM_SERIES_MAX = 10_000  # machines in one answer of counters
VM_SERIES_FRESH = timedelta(seconds=60)  # what is older is left out
VM_METER_TICK_SECONDS = 5.0
VM_MOVE_DEADLINE = timedelta(minutes=30)  # in which nothing more of it arrives
VM_MOVE_NOTE_AFTER = timedelta(minutes=1)  # how often it is noted that something did
VM_MOVE_LONGEST = timedelta(hours=24)  # a guest may write faster than the wire carries
VM_MOVE_LOOK_SECONDS = 0.5
COPY_PIECE_BYTES = 4 << 20  # of a copied file: hashed, read back and, if it must be, copied again as one
COPY_NOTE_SECONDS = 1.0  # how much of a copy a kill may cost
COPY_NEWS_SECONDS = 2.0
