"""libnftables, called in this process: commands go in as JSON documents, whole or not at all."""

import ctypes
import ctypes.util
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from penstock.base.errors import DriverError
from penstock.drivers.nftables.namespaces import inside

Command = dict[str, Any]
_JSON_OUTPUT = 1 << 4
_STATELESS = 1 << 1
_LOCK = threading.Lock()  # the library keeps state of its own between calls


@cache
def _library() -> ctypes.CDLL:
    found = ctypes.util.find_library("nftables") or "libnftables.so.1"
    try:
        library = ctypes.CDLL(found)
    except OSError as error:
        raise DriverError(
            "libnftables is not installed here; Debian's package 'libnftables1' is enough",
            internal=str(error),
        ) from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).restype = ctypes.c_char_p
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


def missing() -> bool:
    """Tell whether the library is not there."""
    try:
        _library()
    except DriverError:
        return True
    return False


def run(namespace: Path | None, commands: Sequence[Command]) -> list[dict[str, Any]]:
    """Do all commands in one transaction in a namespace and return what was listed; DriverError if refused."""
    return _run(namespace, commands, _JSON_OUTPUT | _STATELESS)


def _run(namespace: Path | None, commands: Sequence[Command], flags: int) -> list[dict[str, Any]]:
    text = orjson.dumps({"nftables": list(commands)})
    with _LOCK:
        code, output, errors = inside(namespace, lambda: _call(text, flags))
    if code != 0:
        raise DriverError("the rules of a network were refused by the kernel", internal=errors[:2_000])
    listed: list[dict[str, Any]] = orjson.loads(output)["nftables"] if output else []
    return listed


def _call(text: bytes, flags: int) -> tuple[int, str, str]:
    library = _library()
    context = library.nft_ctx_new(0)
    try:
        library.nft_ctx_output_set_flags(context, flags)
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_buffer_error(context)
        code = int(library.nft_run_cmd_from_buffer(context, text))
        output = library.nft_ctx_get_output_buffer(context) or b""
        errors = library.nft_ctx_get_error_buffer(context) or b""
        return code, output.decode(), errors.decode(errors="replace")
    finally:
        library.nft_ctx_free(context)


def tables(namespace: Path | None) -> set[tuple[str, str]]:
    """Return (family, name) of every table in a namespace."""
    listed = run(namespace, [{"list": {"tables": None}}])
    return {(one["table"]["family"], one["table"]["name"]) for one in listed if "table" in one}


def counters(namespace: Path | None) -> dict[str, int]:
    """Return how many packets each named counter in a namespace has counted."""
    listed = _run(namespace, [{"list": {"counters": None}}], _JSON_OUTPUT)
    return {one["counter"]["name"]: int(one["counter"]["packets"]) for one in listed if "counter" in one}


# -- the words that rules are made of


def meta(key: str) -> dict[str, Any]:
    """Return a packet's property such as ``iifname``."""
    return {"meta": {"key": key}}


def payload(protocol: str, name: str) -> dict[str, Any]:
    """Return a field of a packet's header."""
    return {"payload": {"protocol": protocol, "field": name}}


def match(left: Any, right: Any, op: str = "==") -> dict[str, Any]:
    """Return a comparison; a packet for which it is false goes on with the next rule."""
    return {"match": {"op": op, "left": left, "right": right}}


def concat(*parts: Any) -> dict[str, Any]:
    """Return several fields as one key."""
    return {"concat": list(parts)}


def log(prefix: str, group: int) -> dict[str, Any]:
    """Return the statement that tells whoever listens to ``group`` about the packet."""
    return {"log": {"prefix": prefix, "group": group, "snaplen": 64}}


def limited(per_second: int) -> dict[str, Any]:
    """Return a condition that holds at most so often a second."""
    return {"limit": {"rate": per_second, "per": "second", "burst": per_second}}


def over(kbytes_per_second: int) -> dict[str, Any]:
    """Return a condition that holds for what is more than so many kilobytes a second (a burst of a tenth, 64 at least)."""
    burst = max(64, kbytes_per_second // 10)
    return {
        "limit": {
            "rate": kbytes_per_second,
            "rate_unit": "kbytes",
            "per": "second",
            "burst": burst,
            "burst_unit": "kbytes",
            "inv": True,
        }
    }
