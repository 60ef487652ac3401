"""Errors: a class with a stable code, a public sentence that says what to do, and an internal one.

A code is never reused. The HTTP edge turns any ``PenstockError`` into the documented problem body; any
other exception is a defect and becomes ``internal_error`` with a reference into the log.
"""

from typing import ClassVar


class PenstockError(Exception):
    """Base of every error that a person may see.

    ``sentence`` is public and says what is wrong and what to do; ``field`` names the offending input as a
    dotted path; ``internal`` is for the log only; ``data`` is a small JSON-able dictionary for programs.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(
        self,
        sentence: str,
        *,
        field: str | None = None,
        internal: str | None = None,
        data: dict[str, object] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.field = field
        self.internal = internal
        self.data = data or {}


class InvalidInputError(PenstockError):
    """The request is well-formed but a value in it cannot be accepted."""

    code = "invalid_input"
    status = 422


class UnauthenticatedError(PenstockError):
    """No credential, or one that is unknown, expired or revoked."""

    code = "unauthenticated"
    status = 401


class SecondFactorRequiredError(PenstockError):
    """The password is right and the account has a second factor: send its code too."""

    code = "second_factor_required"
    status = 401


class ForbiddenError(PenstockError):
    """The caller may see the object but may not do this."""

    code = "forbidden"
    status = 403


class ModelNotApprovedError(PenstockError):
    """The model may be used only by tenants that an operator approved, and this one is not."""

    code = "model_not_approved"
    status = 403


class NotFoundError(PenstockError):
    """No such object, or one that belongs to another tenant: the two look the same."""

    code = "not_found"
    status = 404


class ConflictError(PenstockError):
    """The object exists already or is in a state that does not allow this."""

    code = "conflict"
    status = 409


class StaleGenerationError(PenstockError):
    """The object changed since it was read."""

    code = "stale_generation"
    status = 409


class IdempotencyConflictError(PenstockError):
    """The idempotency key was used before with another body."""

    code = "idempotency_conflict"
    status = 409


class QuotaExceededError(PenstockError):
    """The order would exceed a quota; ``data`` says which, its limit, what is used and what was asked."""

    code = "quota_exceeded"
    status = 409


class NotBookableError(PenstockError):
    """The calendar has no room for this then; ``data`` says when it could start instead, if the calendar knows."""

    code = "not_bookable"
    status = 409


class TooLargeError(PenstockError):
    """A body, list or file is over its limit."""

    code = "too_large"
    status = 413


class RateLimitedError(PenstockError):
    """Too many requests; ``data['retry_after_seconds']`` says when to come back."""

    code = "rate_limited"
    status = 429


class UnavailableError(PenstockError):
    """A part the request needs is down or full right now; trying again later may help."""

    code = "unavailable"
    status = 503


class HostHeldError(PenstockError):
    """Another agent has this host's networks and load balancers; the sentence says which, and what to do."""

    code = "host_held"
    status = 503


class ConflictingChangeError(PenstockError):
    """Two changes met in the database and this one was undone; trying again will do."""

    code = "conflicting_change"
    status = 503


class DriverError(PenstockError):
    """A backend refused or failed; recorded as the reason of a service, never shown as a 500."""

    code = "driver_failed"
    status = 502


class StartupError(PenstockError):
    """The process cannot start here; the sentence says what to change."""

    code = "startup_failed"
    status = 503


def error_classes() -> dict[str, type[PenstockError]]:
    """Return every error class by its code; used by the reference docs and by the habit test for reuse."""
    found: dict[str, type[PenstockError]] = {}
    todo: list[type[PenstockError]] = [PenstockError]
    while todo:
        error = todo.pop()
        if error.code in found and found[error.code] is not error:
            raise AssertionError(f"error code {error.code} is used twice")
        found[error.code] = error
        todo.extend(error.__subclasses__())
    return found
