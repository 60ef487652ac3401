"""How far a long copy is, as the API shows it of volumes and machines."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel

from penstock.domain.copying import copy_of


class CopyOut(BaseModel):
    """A copy that is under way: ``copying`` what is new, then ``checking`` by reading it back; null where it is not known yet."""

    phase: str
    percent: int
    done_bytes: int
    total_bytes: int
    bytes_per_second: int | None
    left_seconds: int | None
    sentence: str


def copy_out(detail: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the copy that a host reports in ``detail``; None if there is none."""
    found = copy_of(detail)
    return None if found is None else {**asdict(found), "percent": found.percent, "sentence": found.sentence}
