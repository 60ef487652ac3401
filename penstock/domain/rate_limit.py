"""Limits of token traffic: what a key, project, tenant or endpoint may take at the gateway, and how it waits."""

from enum import StrEnum

from penstock.base.errors import InvalidInputError


class Subject(StrEnum):
    """Whose limit it is."""

    TENANT = "tenant"
    PROJECT = "project"
    KEY = "key"
    ENDPOINT = "endpoint"


class Priority(StrEnum):
    """In which class requests wait for an engine; shares of 16, 4 and 1."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


LIMITS: tuple[str, ...] = (
    "requests_per_minute",
    "tokens_per_minute",
    "tokens_per_day",
    "microeur_per_month",
)
_SUBJECT_OF_PREFIX = {
    "ten": Subject.TENANT,
    "prj": Subject.PROJECT,
    "key": Subject.KEY,
    "svc": Subject.ENDPOINT,
}


def subject_of(subject_id: str) -> Subject:
    """Return what an id names; InvalidInputError for one that nothing can be limited by."""
    found = _SUBJECT_OF_PREFIX.get(subject_id.partition("_")[0])
    if found is None:
        raise InvalidInputError(
            "only a tenant, a project, a key or an endpoint (an LLM service) has limits", field="subject_id"
        )
    return found
