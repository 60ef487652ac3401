"""Ends a process that this one may not be the parent of, and waits until it is gone."""

import os
import select
import signal

STOP_SECONDS = 5.0


def end(pid: int) -> None:
    """Ask a process to end, make it end if it does not in time, return when it is gone; gone already is fine."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # it ended by itself meanwhile
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(handle, number)
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            if poll.poll(STOP_SECONDS * 1_000):
                return
    except ProcessLookupError:
        return  # the same
    finally:
        os.close(handle)
