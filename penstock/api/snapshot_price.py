"""What a snapshot would cost, as the API says it of machines and volumes."""

from pydantic import BaseModel


class SnapshotPlan(BaseModel):
    """What a snapshot would cost an hour at most, if it occupied all of what it is of; null: nothing, the newest price book has no price of it."""

    size_gib: int
    driver: str
    price_book_id: str | None
    microeur_per_hour_max: int | None
