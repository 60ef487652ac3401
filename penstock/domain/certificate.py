"""Certificates of a project: uploaded, or issued by the project's own authority and rotated before they end.

Each project has an authority of its own: names and addresses inside networks are anybody's (two tenants may have the same
zone and the same prefix), so a certificate must count only where its project's authority is trusted.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address

from penstock.base import limits
from penstock.base.errors import InvalidInputError

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*\Z")
_NAME_CHARACTERS_MAX = 253


class CertificateSource(StrEnum):
    """Where a certificate is from."""

    ISSUED = "issued"
    UPLOADED = "uploaded"


class CertificateState(StrEnum):
    """What a certificate is worth now."""

    VALID = "valid"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    REVOKED = "revoked"


CERTIFICATE_STATE_SENTENCES: dict[CertificateState, str] = {
    CertificateState.VALID: "it holds",
    CertificateState.EXPIRING: "it holds, and two thirds of its life are over; one that was uploaded must be replaced",
    CertificateState.EXPIRED: "its time is over; clients refuse it",
    CertificateState.REVOKED: "it was revoked and stands in its authority's list; it is not rotated any more",
}


def rotate_at(begins_at: datetime, expires_at: datetime) -> datetime:
    """Return when a certificate is to be followed by another one: two thirds of its life are over."""
    return begins_at + (expires_at - begins_at) * 2 / 3


def state_of(
    begins_at: datetime, expires_at: datetime, revoked_at: datetime | None, now: datetime
) -> CertificateState:
    """Return what a certificate is worth at ``now``."""
    if revoked_at is not None:
        return CertificateState.REVOKED
    if expires_at <= now:
        return CertificateState.EXPIRED
    return CertificateState.EXPIRING if rotate_at(begins_at, expires_at) <= now else CertificateState.VALID


def check_names(names: Sequence[str], field: str = "names") -> list[str]:
    """Return host names and addresses for a certificate, each once, in lower case; InvalidInputError names the bad one."""
    if not 1 <= len(names) <= limits.CERTIFICATE_NAMES_MAX:
        raise InvalidInputError(
            f"a certificate is for 1 to {limits.CERTIFICATE_NAMES_MAX} names or addresses", field=field
        )
    return list(dict.fromkeys(_checked(name, f"{field}.{position}") for position, name in enumerate(names)))


def _checked(name: str, field: str) -> str:
    try:
        return str(ip_address(name))
    except ValueError:
        pass  # no address, so it is taken for a name
    low = name.lower().rstrip(".")
    if len(low) > _NAME_CHARACTERS_MAX or _NAME.match(low) is None:
        raise InvalidInputError(
            f"'{name[:64]}' is no address and no host name, as in www.prod.internal or *.prod.internal",
            field=field,
        )
    return low


def life(days: int) -> timedelta:
    """Return the life of a certificate that is issued for so many days."""
    return timedelta(days=days)


def key_purpose(certificate_id: str) -> str:
    """Return what the private key of a certificate is sealed for, so that it opens for nothing else."""
    return f"certificate key {certificate_id}"


def authority_purpose(project_id: str) -> str:
    """Return what the private key of a project's authority is sealed for."""
    return f"certificate authority {project_id}"
