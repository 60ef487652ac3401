"""Tests fail closed: a socket that would leave this machine, or listen to others, raises before it does.

An audit hook sees every socket that Python itself opens, whichever library asks. It does not see sockets of
C libraries (libpq, uvloop) nor of child processes; children that honour proxy variables are sent to a dead
port of the loopback, the rest is covered by there being nothing to reach: tests name loopback addresses only.
"""

import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import Any

_DEAD_PROXY = "http://127.0.0.1:9"  # the discard port: nobody answers there
_on = False


class NetworkRefusedError(RuntimeError):
    """A test tried to leave the machine."""


def is_here(host: object) -> bool:
    """Tell whether ``host`` (a name or an address, text or bytes) is this machine's loopback."""
    if host is None:
        return True  # getaddrinfo(None) is the loopback unless AI_PASSIVE is set; binding is judged by its own event
    text = host.decode() if isinstance(host, bytes) else str(host)
    if text in {"localhost", "ip6-localhost"}:
        return True
    try:
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _elsewhere() -> bool:
    """Tell whether this thread is in a network namespace that a test made: nothing outside can be reached from there."""
    own, process = (Path(f"/proc/{who}/ns/net").stat().st_ino for who in ("thread-self", "self"))
    return own != process


def _judge(event: str, arguments: tuple[Any, ...]) -> None:
    if event in {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}:
        address = arguments[1]
        of_internet = arguments[0].family in {socket.AF_INET, socket.AF_INET6}
        if of_internet and isinstance(address, tuple) and not is_here(address[0]) and not _elsewhere():
            raise NetworkRefusedError(
                f"{event} to {address!r}: tests stay on the loopback. Bind to 127.0.0.1 with port 0 and read the "
                "port back; stand in for an outside service with a real local server."
            )
    elif event in {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"} and not is_here(
        arguments[0]
    ):
        raise NetworkRefusedError(
            f"{event} of {arguments[0]!r}: tests resolve no outside names; use 127.0.0.1."
        )


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event.startswith("socket."):
        _judge(event, arguments)


def refuse_strangers() -> None:
    """Switch the guard on for the rest of this process; an audit hook cannot be taken off again."""
    global _on  # noqa: PLW0603 - a process has one guard
    if _on:
        return
    _on = True
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        os.environ[name] = os.environ[name.upper()] = _DEAD_PROXY
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost,127.0.0.1,::1"
    sys.addaudithook(_hook)
