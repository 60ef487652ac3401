"""Secrets of projects: keys of other people's servers, stored sealed."""


def secret_purpose(secret_id: str) -> str:
    """Return what the value of a secret is sealed for: a row that is copied over another one does not open."""
    return f"secret {secret_id}"
