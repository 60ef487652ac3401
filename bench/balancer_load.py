"""Asks a web server inside a network namespace, run by file name; needs nothing but Python.

    balancer_load.py rate ADDRESS PORT CONNECTIONS SECONDS    over connections that stay: requests a second, times
    balancer_load.py gap ADDRESS PORT                         over a connection each, until its input ends: the longest
                                                              time without an answer

Prints one JSON line. A request of ``gap`` waits for 0.25 s at most, then the next one begins.
"""

import json
import select
import socket
import sys
import time

ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
ASK_ONCE = b"GET / HTTP/1.0\r\n\r\n"
TRY_SECONDS, PAUSE_SECONDS = 0.25, 0.005
ANSWER_BYTES = 65_536


def rate(address: str, port: str, connections: str, seconds: str) -> dict[str, float]:
    """Keep each connection busy with one request at a time."""
    opened = [socket.create_connection((address, int(port)), timeout=5) for _ in range(int(connections))]
    by_number = {one.fileno(): one for one in opened}
    poll = select.epoll()
    sent: dict[int, float] = {}
    for number, one in by_number.items():
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(number, select.EPOLLIN)
        sent[number] = time.perf_counter()
        one.sendall(ASK)
    times: list[float] = []
    errors = 0
    began = time.perf_counter()
    end = began + float(seconds)
    while (now := time.perf_counter()) < end and by_number:
        for number, _ in poll.poll(0.5):
            one = by_number[number]
            answer = one.recv(ANSWER_BYTES)
            now = time.perf_counter()
            if not answer.startswith(b"HTTP/1.1 200"):
                errors += 1
                if not answer:
                    del by_number[number]
                    continue
            times.append(now - sent[number])
            sent[number] = now
            one.sendall(ASK)
    took = now - began
    times.sort()
    return {
        "requests_per_second": round(len(times) / took),
        "p50_us": round(times[len(times) // 2] * 1e6),
        "p99_us": round(times[int(len(times) * 0.99)] * 1e6),
        "errors": errors,
    }


def gap(address: str, port: str) -> dict[str, float]:
    """Ask again and again; the first line printed says that an answer has come."""
    last: float | None = None
    longest, unanswered, answered = 0.0, 0, 0
    while not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
        if _answered(address, int(port)):
            now = time.perf_counter()
            if last is None:
                print("answered", flush=True)
            else:
                longest = max(longest, now - last)
            last, answered = now, answered + 1
        else:
            unanswered += 1
    if last is not None:
        longest = max(longest, time.perf_counter() - last)
    return {"longest_seconds": round(longest, 4), "unanswered": unanswered, "answered": answered}


def _answered(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=TRY_SECONDS) as connection:
            connection.sendall(ASK_ONCE)
            return b" 200 " in connection.recv(ANSWER_BYTES)
    except OSError:
        return False


if __name__ == "__main__":
    command = {"rate": rate, "gap": gap}[sys.argv[1]]
    print(json.dumps(command(*sys.argv[2:])))
