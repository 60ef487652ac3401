"""What a new factory starts with: prices and offers. Existing ones are never touched."""

from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions.context import Context
from penstock.catalog.kinds import kind_named
from penstock.domain.price import Meter, Price
from penstock.store import offer as offer_store
from penstock.store import price_book as price_book_store
from penstock.store.database import SYSTEM

EUR = 1_000_000

# List prices to begin with, in micro-euro; the operator publishes a new version of the book to change them.
START_PRICES: tuple[Price, ...] = (
    Price(Meter.GPU_HOURS, "GB200", 7 * EUR),
    Price(Meter.GPU_HOURS, "B200", 5_500_000),
    Price(Meter.GPU_HOURS, "H200", 3_500_000),
    Price(Meter.GPU_HOURS, "H100", 2_500_000),
    Price(Meter.GPU_HOURS, "A100", 1_500_000),
    Price(Meter.GPU_HOURS, "L40S", 1_200_000),
    Price(Meter.GPU_HOURS, "MI300X", 3 * EUR),
    Price(Meter.GPU_HOURS, "*", 2 * EUR),
    Price(Meter.INPUT_TOKENS, "*", 100_000),
    Price(Meter.OUTPUT_TOKENS, "*", 400_000),
    Price(Meter.VCPU_HOURS, "*", 20_000),
    Price(Meter.MEMORY_GIB_HOURS, "*", 5_000),
    Price(Meter.DISK_GIB_HOURS, "*", 100),
    Price(Meter.VOLUME_GIB_HOURS, "*", 100),
    Price(Meter.SNAPSHOT_GIB_HOURS, "*", 50),
    Price(Meter.QUERIES, "*", 200_000),  # of 1,000 questions to knowledge bases
    Price(Meter.DOCUMENTS_INDEXED, "*", 500_000),  # of 1,000 documents
    Price(Meter.CHUNK_DAYS, "*", 1_000),  # of 1,000 pieces kept for a day
)

START_OFFERS: tuple[dict[str, Any], ...] = (
    {
        "name": "gpu",
        "kind": "gpu",
        "title": "GPUs",
        "description": "1 to 576 accelerators of a class, or of the cheapest that meets your needs, whole or in slices, in the shape you ask for.",
        "fixed": {},
    },
    {
        "name": "gb200",
        "kind": "gpu",
        "title": "GB200",
        "description": "Whole GB200 accelerators, on request all in one NVLink domain.",
        "fixed": {"device_class": "GB200", "slices": 0, "memory_gib_min": 0},
    },
    {
        "name": "gb200-slice",
        "kind": "gpu",
        "title": "Slice of a GB200",
        "description": "One seventh of a GB200 with 23 GiB of its memory, isolated in hardware.",
        "fixed": {"device_class": "GB200", "slices": 1, "memory_gib_min": 0, "same_nvlink_domain": False},
    },
    {
        "name": "nvl72-rack",
        "kind": "gpu",
        "title": "Whole NVL72 rack",
        "description": "72 GB200 in one NVLink domain.",
        "fixed": {
            "device_class": "GB200",
            "count": 72,
            "slices": 0,
            "memory_gib_min": 0,
            "same_nvlink_domain": True,
        },
    },
    {
        "name": "llm",
        "kind": "llm",
        "title": "LLM endpoint",
        "description": "An OpenAI-compatible endpoint for a model of the catalogue, billed by the token.",
        "fixed": {},
    },
    {
        "name": "llm-demo",
        "kind": "llm",
        "title": "LLM endpoint (demonstration model)",
        "description": "Real tokens from a tiny demonstration model that runs on any CPU; its answers are not to be relied on.",
        "fixed": {"model": "penstock-demo-5m"},
    },
    {
        "name": "llm-external",
        "kind": "llm_external",
        "title": "LLM endpoint elsewhere",
        "description": "Keys, limits, books and routing of this factory in front of servers of OpenAI's API that run elsewhere.",
        "fixed": {},
    },
    {
        "name": "embedding",
        "kind": "llm",
        "title": "Embedding endpoint",
        "description": "Vectors of 384 numbers for texts of up to 256 tokens, on any CPU; what knowledge bases search with.",
        "fixed": {"model": "all-minilm-l6-v2"},
    },
    {
        "name": "rag",
        "kind": "rag",
        "title": "Answers from your documents",
        "description": "A knowledge base, what makes its vectors, and an OpenAI-compatible endpoint that answers from it and cites.",
        "fixed": {},
    },
    {
        "name": "rag-demo",
        "kind": "rag",
        "title": "Answers from your documents (demonstration model)",
        "description": "The same with a tiny demonstration model: what is found is to be relied on, how it is put into words is not.",
        "fixed": {"model": "penstock-demo-5m"},
    },
    {
        "name": "vm",
        "kind": "vm",
        "title": "Virtual machine",
        "description": "A machine of your own from an image, on your networks, with your SSH keys.",
        "fixed": {"bridges": [], "device_class": None, "devices": 0},
    },
)


def seed_catalogue(context: Context) -> None:
    """Publish the first price book and offers if there are none yet."""
    with context.db.transaction(SYSTEM) as connection:
        now = context.clock.now()
        if price_book_store.latest_id(connection) is None:
            price_book_store.insert(
                connection,
                context.new_id("price_book"),
                START_PRICES,
                "list prices to begin with",
                "system",
                now,
            )
        if not offer_store.page(connection, tenant_id=None, after=None, limit=1):
            _insert_offers(context, connection)


def _insert_offers(context: Context, connection: Connection) -> None:
    for seed in START_OFFERS:
        row = {
            **seed,
            "id": context.new_id("offer"),
            "form": kind_named(seed["kind"]).form,
            "eligible_tenants": None,
            "state": "active",
            "created_at": context.clock.now(),
        }
        offer_store.insert(connection, row)
