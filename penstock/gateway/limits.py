"""Requests and tokens per minute of a key, and the monthly tokens of a tenant: reserve, then settle.

A limit of N a minute means: no 60 seconds, wherever they start, hold more than N. A token bucket or a
calendar minute would let 2 N through around a boundary. The window is 61 slots of one second, because
the last 60 seconds touch at most 61 of them; it errs by less than a second, and only towards refusing.

Tokens are reserved at admission (prompt estimate plus the bound of the answer) and settled to what was
generated when the request ends, so that parallel requests cannot overrun a limit together. One process
decides alone here: limits that several processes share are not built yet.
"""

from dataclasses import dataclass

_SLOTS = 61


class Window:
    """How much was taken in the last 60 seconds, in slots of one second."""

    __slots__ = ("_head", "_last", "_slots", "total")

    def __init__(self) -> None:
        self._slots = [0] * _SLOTS
        self._head = 0
        self._last = 0
        self.total = 0

    def advance(self, second: int) -> None:
        """Forget what left the window; ``second`` never goes back."""
        gap = second - self._head
        if gap <= 0:
            return
        if gap >= _SLOTS:
            self._slots = [0] * _SLOTS
            self.total = 0
        else:
            for passed in range(self._head + 1, second + 1):
                index = passed % _SLOTS
                self.total -= self._slots[index]
                self._slots[index] = 0
        self._head = second

    def add(self, amount: int, second: int | None = None) -> None:
        """Count ``amount`` (negative gives back) in the slot of ``second`` if the window still holds it."""
        at = self._head if second is None else second
        if at <= self._head - _SLOTS:
            return
        self._slots[at % _SLOTS] += amount
        self.total += amount
        self._last = max(self._last, at)

    @property
    def seconds_to_empty(self) -> int:
        """Return whole seconds until nothing is left in the window."""
        return self._last + _SLOTS - self._head if self.total > 0 else 0

    def seconds_until(self, fits: int) -> int:
        """Return whole seconds from now until ``total`` has shrunk to ``fits`` or less by itself."""
        total = self.total
        for age in range(_SLOTS - 1, -1, -1):
            if total <= fits:
                return max(1, _SLOTS - 1 - age)
            total -= self._slots[(self._head - age) % _SLOTS]
        return _SLOTS


class TokenQuota:
    """What is left of a tenant's monthly tokens, as far as this process knows.

    ``left`` comes from a snapshot. What was recorded here but not yet acknowledged by the control plane
    is not in it, so it is taken off again when a new snapshot arrives.
    """

    __slots__ = ("left", "reserved", "unacknowledged", "used")

    def __init__(self) -> None:
        self.left: int | None = None
        self.used = 0
        self.reserved = 0
        self.unacknowledged = 0

    def rebase(self, left: int | None) -> None:
        """Take over what a new snapshot says."""
        self.left = left
        self.used = self.unacknowledged

    def recorded(self, tokens: int) -> None:
        """Count tokens that were written to the journal."""
        self.used += tokens
        self.unacknowledged += tokens

    def acknowledged(self, tokens: int) -> None:
        """Count tokens that the control plane has confirmed."""
        self.unacknowledged = max(0, self.unacknowledged - tokens)

    @property
    def available(self) -> int | None:
        """Return the tokens that may still be reserved; None means no quota."""
        return None if self.left is None else self.left - self.used - self.reserved


class KeyLimits:
    """A key's limits and windows; survives snapshots, so that a new version does not refill them."""

    __slots__ = ("request_window", "requests_per_minute", "token_window", "tokens_per_minute")

    def __init__(self) -> None:
        self.requests_per_minute: int | None = None
        self.tokens_per_minute: int | None = None
        self.request_window = Window()
        self.token_window = Window()

    @property
    def limited(self) -> bool:
        """Tell whether the key has any limit."""
        return self.requests_per_minute is not None or self.tokens_per_minute is not None

    def headers(self) -> bytes:
        """Return the ``x-ratelimit-*`` lines; a reset is when the window would be empty."""
        lines = b""
        for name, limit, window in (
            (b"requests", self.requests_per_minute, self.request_window),
            (b"tokens", self.tokens_per_minute, self.token_window),
        ):
            if limit is not None:
                reset = window.seconds_to_empty
                remaining = max(0, limit - window.total)
                lines += (
                    b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %ds\r\n"
                    % (name, limit, name, remaining, name, reset)
                )
        return lines


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a request was not admitted: ``reason`` is requests, tokens, oversize or quota."""

    reason: str
    limit: int
    asked: int
    retry_after_seconds: int


class Reservation:
    """What one admitted request holds until it is settled."""

    __slots__ = ("_amount", "_limits", "_quota", "_second", "_settled", "_windowed")

    def __init__(self, limits: KeyLimits, quota: TokenQuota, second: int, windowed: int, amount: int) -> None:
        self._limits = limits
        self._quota = quota
        self._second = second
        self._windowed = windowed
        self._amount = amount
        self._settled = False

    def settle(self, now_seconds: float, actual_tokens: int) -> None:
        """Replace the reservation by what was generated; the second call changes nothing.

        What was reserved too much is given back to its own second; an excess counts now.
        """
        if self._settled:
            return
        self._settled = True
        self._quota.reserved -= self._amount
        if self._limits.tokens_per_minute is None:
            return
        window = self._limits.token_window
        window.advance(int(now_seconds))
        excess = actual_tokens - self._windowed
        if excess <= 0:
            window.add(excess, self._second)
        else:
            window.add(excess)


def admit(
    limits: KeyLimits, quota: TokenQuota, now_seconds: float, prompt: int, completion: int, *, stated: bool
) -> Reservation | Refused:
    """Reserve one request of ``prompt + completion`` tokens, or say why not; all of it or nothing.

    ``now_seconds`` is monotonic. ``stated`` tells that the client gave the bound of the answer itself; a
    bound that we assumed shrinks to what the limit can hold, so that a small limit still admits somebody.
    """
    second = int(now_seconds)
    amount = prompt + completion
    available = quota.available
    reserve = amount
    if available is not None:
        if not stated:
            reserve = max(prompt + 1, min(amount, available))
        if reserve > available:
            return Refused("quota", available, reserve, 3_600)
    requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
    if requests is not None:
        limits.request_window.advance(second)
        if limits.request_window.total + 1 > requests:
            wait = limits.request_window.seconds_until(requests - 1)
            return Refused("requests", requests, 1, wait)
    windowed = 0
    if tokens is not None:
        limits.token_window.advance(second)
        windowed = amount if stated else max(prompt + 1, min(amount, tokens))
        if windowed > tokens:
            return Refused("oversize", tokens, windowed, 60)
        if limits.token_window.total + windowed > tokens:
            return Refused("tokens", tokens, windowed, limits.token_window.seconds_until(tokens - windowed))
        limits.token_window.add(windowed)
    if requests is not None:
        limits.request_window.add(1)
    quota.reserved += reserve
    return Reservation(limits, quota, second, windowed, reserve)
