"""One JSON object a line on standard error: what happened to the process, never what a request said."""

import sys

import orjson


def event(name: str, **fields: str | float | bool | None) -> None:
    """Write one event; never a key, a token or a prompt. A broken standard error does not stop serving."""
    line = orjson.dumps({"component": "gateway", "event": name, **fields}).decode() + "\n"
    try:
        sys.stderr.write(line)
        sys.stderr.flush()
    except OSError:
        return  # nobody reads the log any more; there is no better place to say so
