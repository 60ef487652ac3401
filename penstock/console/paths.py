"""Addresses that a browser gives us to go on with."""


def next_page(wanted: str) -> str:
    """Return where to go after a log-in: a page of the console and nothing else."""
    inside = wanted.startswith("/") and not wanted.startswith("//") and "\\" not in wanted
    return wanted if inside and wanted.isprintable() and not wanted.startswith("/login") else "/"
