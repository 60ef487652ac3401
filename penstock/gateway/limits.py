"""Limits of keys, projects, tenants and models: reserve at admission, settle at the end.

A limit of N a minute means: no 60 seconds, wherever they start, hold more than N. A token bucket or a
calendar minute would let 2 N through around a boundary. The window is 61 slots of one second, because
the last 60 seconds touch at most 61 of them; it errs by less than a second, and only towards refusing.
Days and months are those of the calendar, UTC.

Tokens and money are reserved at admission (prompt estimate plus the bound of the answer) and settled to what
was generated when the request ends, so that parallel requests cannot overrun a limit together. The counters
are rows of a table that all processes of a port share (``limit_table``); a request takes from all of its scopes
or from none, under the table's lock.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from penstock.gateway.limit_table import (
    DAY_AT,
    MONTH_AT,
    PROCESSES_MAX,
    REQUESTS_AT,
    RESERVED_MICROEUR_AT,
    RESERVED_TOKENS_AT,
    TOKENS_AT,
    UNACKNOWLEDGED_AT,
    USED_AT,
    WINDOW_CELLS,
    Cells,
    LimitTable,
)

_SLOTS = 61
_HEAD, _LAST, _TOTAL = _SLOTS, _SLOTS + 1, _SLOTS + 2
_REQUESTS_LINES, _TOKENS_LINES = (
    b"x-ratelimit-limit-%b: %%d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%ds\r\n"
    % (name, name, name)
    for name in (b"requests", b"tokens")
)


class Window:
    """How much was taken in the last 60 seconds, in slots of one second; ``cells`` hold it."""

    __slots__ = ("_cells",)

    def __init__(self, cells: Cells | None = None) -> None:
        self._cells: Cells = [0] * WINDOW_CELLS if cells is None else cells

    @property
    def total(self) -> int:
        """Return what the window holds as of the last ``advance``."""
        return self._cells[_TOTAL]

    def advance(self, second: int) -> None:
        """Forget what left the window; another process may be a second ahead, and nothing goes back."""
        cells = self._cells
        head = cells[_HEAD]
        gap = second - head
        if gap <= 0:
            return
        if cells[_TOTAL] or gap >= _SLOTS:
            for passed in range(head + 1, second + 1) if gap < _SLOTS else range(_SLOTS):
                index = passed % _SLOTS
                amount = cells[index]
                if amount:
                    cells[_TOTAL] -= amount
                    cells[index] = 0
        cells[_HEAD] = second

    def add(self, amount: int, second: int | None = None) -> None:
        """Count ``amount`` (negative gives back) in the slot of ``second`` if the window still holds it."""
        cells = self._cells
        head = cells[_HEAD]
        at = head if second is None else second
        if at <= head - _SLOTS:
            return
        cells[at % _SLOTS] += amount
        cells[_TOTAL] += amount
        cells[_LAST] = max(cells[_LAST], at)

    def standing(self, limit: int) -> tuple[int, int, int]:
        """Return the limit, what remains of it, and whole seconds until nothing is left in the window."""
        cells = self._cells
        total = cells[_TOTAL]
        if total <= 0:
            return limit, limit, 0
        return limit, limit - total if limit > total else 0, cells[_LAST] + _SLOTS - cells[_HEAD]

    def seconds_until(self, fits: int) -> int:
        """Return whole seconds from now until ``total`` has shrunk to ``fits`` or less by itself."""
        cells = self._cells
        total, head = cells[_TOTAL], cells[_HEAD]
        for age in range(_SLOTS - 1, -1, -1):
            if total <= fits:
                return max(1, _SLOTS - 1 - age)
            total -= cells[(head - age) % _SLOTS]
        return _SLOTS


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used of a day (number ``day``) and a month (number ``month``) until the snapshot was made."""

    day: int
    tokens: int
    month: int
    microeur: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What one scope may take; None is no limit. ``tokens_left`` is what the control plane says is left."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    microeur_per_month: int | None = None
    tokens_left: int | None = None
    spent: "Spent | None" = None  # as the control plane knows it, from all gateways

    @property
    def any(self) -> bool:
        """Tell whether there is a limit at all."""
        return self != NO_LIMITS


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Instant:
    """When a request is admitted or settled: seconds of the monotonic clock, and the calendar's day and month."""

    second: int
    day: int = 0
    month: int = 0
    day_left_seconds: int = 86_400
    month_left_seconds: int = 86_400 * 31


@dataclass(frozen=True, slots=True)
class Price:
    """What a model's tokens cost, in micro-euro per million."""

    prompt: int = 0
    completion: int = 0

    def of(self, prompt: int, completion: int) -> int:
        """Return micro-euro, rounded up to a whole one."""
        return -(-(prompt * self.prompt + completion * self.completion) // 1_000_000)


FREE = Price()


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a request was not admitted: ``reason`` is requests, tokens, oversize, day, month or quota."""

    reason: str
    limit: int
    asked: int
    retry_after_seconds: int
    scope: str = "key"


class Scope:
    """A key, project, tenant or model with its limits and counters; survives snapshots."""

    __slots__ = ("_process", "_reserved", "_row", "kind", "limits", "requests", "tokens")

    def __init__(self, kind: str, table: LimitTable, name: str) -> None:
        self.kind = kind
        self.limits = NO_LIMITS
        self._row = table.row(f"{kind}:{name}")
        self._process = table.process
        self._reserved = RESERVED_TOKENS_AT + table.process
        self.requests = Window(self._row[REQUESTS_AT : REQUESTS_AT + WINDOW_CELLS])
        self.tokens = Window(self._row[TOKENS_AT : TOKENS_AT + WINDOW_CELLS])

    def _sum(self, at: int) -> int:
        return sum(self._row[at : at + PROCESSES_MAX])

    # The quota of a snapshot. What was recorded here but not yet acknowledged by the control plane is not in
    # what it says is left, so it is taken off again when a new snapshot arrives.

    @property
    def available(self) -> int | None:
        """Return the tokens of the quota that may still be reserved; None means no quota."""
        left = self.limits.tokens_left
        return None if left is None else left - self._sum(USED_AT) - self._sum(RESERVED_TOKENS_AT)

    def take(self, limits: Limits) -> None:
        """Take over what a new snapshot says."""
        self.limits = limits
        self._row[USED_AT + self._process] = self._row[UNACKNOWLEDGED_AT + self._process]

    def learn(self, told: Spent) -> None:
        """Count at least what the control plane knows: other machines' usage, and what was used before the limit."""
        row = self._row
        for at, period, amount in ((DAY_AT, told.day, told.tokens), (MONTH_AT, told.month, told.microeur)):
            if row[at] < period:
                row[at], row[at + 1] = period, 0
            if row[at] == period:
                row[at + 1] = max(row[at + 1], amount)

    def recorded(self, tokens: int) -> None:
        """Count tokens that were written to the journal."""
        self._row[USED_AT + self._process] += tokens
        self._row[UNACKNOWLEDGED_AT + self._process] += tokens

    def acknowledged(self, tokens: int) -> None:
        """Count tokens that the control plane has confirmed."""
        at = UNACKNOWLEDGED_AT + self._process
        self._row[at] = max(0, self._row[at] - tokens)

    def spent(self, at: Instant) -> tuple[int, int]:
        """Return the tokens of the day and the micro-euro of the month, as settled."""
        row = self._row
        return (
            row[DAY_AT + 1] if row[DAY_AT] == at.day else 0,
            row[MONTH_AT + 1] if row[MONTH_AT] == at.month else 0,
        )

    # Admission, under the table's lock.

    def room(self, at: Instant, price: Price) -> int | None:
        """Return the tokens that could be reserved at the very most; None for no bound."""
        limits = self.limits
        bounds = [] if limits.tokens_per_minute is None else [limits.tokens_per_minute]
        available = self.available
        if available is not None:
            bounds.append(available)
        day, month = self.spent(at)
        if limits.tokens_per_day is not None:
            bounds.append(limits.tokens_per_day - day - self._sum(RESERVED_TOKENS_AT))
        dearest = max(price.prompt, price.completion)
        if limits.microeur_per_month is not None and dearest:
            free = limits.microeur_per_month - month - self._sum(RESERVED_MICROEUR_AT)
            bounds.append(free * 1_000_000 // dearest)
        return min(bounds) if bounds else None

    def refusal(self, at: Instant, tokens: int, microeur: int) -> Refused | None:
        """Return why a request does not fit, or None."""
        limits, kind = self.limits, self.kind
        if limits.tokens_left is not None:
            available = self.available or 0
            if tokens > available:
                return Refused("quota", available, tokens, 3_600, kind)
        if limits.tokens_per_day is not None or limits.microeur_per_month is not None:
            refused = self._period_refusal(at, tokens, microeur)
            if refused is not None:
                return refused
        if limits.requests_per_minute is not None:
            self.requests.advance(at.second)
            if self.requests.total + 1 > limits.requests_per_minute:
                wait = self.requests.seconds_until(limits.requests_per_minute - 1)
                return Refused("requests", limits.requests_per_minute, 1, wait, kind)
        most = limits.tokens_per_minute
        if most is not None:
            self.tokens.advance(at.second)
            if tokens > most:
                return Refused("oversize", most, tokens, 60, kind)
            if self.tokens.total + tokens > most:
                return Refused("tokens", most, tokens, self.tokens.seconds_until(most - tokens), kind)
        return None

    def _period_refusal(self, at: Instant, tokens: int, microeur: int) -> Refused | None:
        limits = self.limits
        day, month = self.spent(at)
        if limits.tokens_per_day is not None:
            free = limits.tokens_per_day - day - self._sum(RESERVED_TOKENS_AT)
            if tokens > free:
                return Refused("day", free, tokens, at.day_left_seconds, self.kind)
        if limits.microeur_per_month is not None:
            free = limits.microeur_per_month - month - self._sum(RESERVED_MICROEUR_AT)
            if microeur > free:
                return Refused("month", free, microeur, at.month_left_seconds, self.kind)
        return None

    def reserve(self, tokens: int, microeur: int) -> None:
        """Take one request; only after ``refusal`` said None under the same lock."""
        limits = self.limits
        if limits.requests_per_minute is not None:
            self.requests.add(1)
        if limits.tokens_per_minute is not None:
            self.tokens.add(tokens)
        self._row[self._reserved] += tokens
        if microeur:
            self._row[RESERVED_MICROEUR_AT + self._process] += microeur

    def settle(self, held: "Reservation", at: Instant, tokens: int, microeur: int) -> None:
        """Replace what a reservation holds by what was used.

        What was reserved too much is given back to its own second; an excess counts now.
        """
        row = self._row
        row[self._reserved] -= held.tokens
        if held.microeur:
            row[RESERVED_MICROEUR_AT + self._process] -= held.microeur
        if self.limits.tokens_per_minute is not None:
            self.tokens.advance(at.second)
            excess = tokens - held.tokens
            if excess:
                self.tokens.add(excess, held.second if excess < 0 else None)
        self.charge(at, tokens, microeur)

    def charge(self, at: Instant, tokens: int, microeur: int) -> None:
        """Count what was used in the day and in the month."""
        row = self._row
        if self.limits.tokens_per_day is not None:
            if row[DAY_AT] != at.day:
                row[DAY_AT], row[DAY_AT + 1] = at.day, 0
            row[DAY_AT + 1] += tokens
        if self.limits.microeur_per_month is not None:
            if row[MONTH_AT] != at.month:
                row[MONTH_AT], row[MONTH_AT + 1] = at.month, 0
            row[MONTH_AT + 1] += microeur

    def headers(self) -> bytes:
        """Return the ``x-ratelimit-*`` lines; a reset is when the window would be empty."""
        lines = b""
        limit = self.limits.requests_per_minute
        if limit is not None:
            lines = _REQUESTS_LINES % self.requests.standing(limit)
        limit = self.limits.tokens_per_minute
        if limit is not None:
            lines += _TOKENS_LINES % self.tokens.standing(limit)
        return lines


class Reservation:
    """What one admitted request holds until it is settled."""

    __slots__ = ("_price", "_scopes", "_settled", "_table", "microeur", "second", "tokens")

    def __init__(
        self,
        table: LimitTable,
        scopes: Sequence[Scope],
        price: Price,
        at: Instant,
        tokens: int,
        microeur: int,
    ) -> None:
        self._table = table
        self._scopes = scopes
        self._price = price
        self._settled = False
        self.second = at.second
        self.tokens = tokens
        self.microeur = microeur

    def settle(self, at: Instant, prompt: int, completion: int) -> None:
        """Replace the reservation by what was generated; the second call changes nothing."""
        if self._settled:
            return
        self._settled = True
        tokens, price = prompt + completion, self._price
        microeur = 0 if price is FREE else price.of(prompt, completion)
        lock = self._table.lock
        if lock is None:
            for scope in self._scopes:
                scope.settle(self, at, tokens, microeur)
            return
        with lock:
            for scope in self._scopes:
                scope.settle(self, at, tokens, microeur)


def admit(
    table: LimitTable,
    scopes: Sequence[Scope],
    at: Instant,
    prompt: int,
    completion: int,
    *,
    stated: bool,
    price: Price | None = None,
) -> Reservation | Refused:
    """Reserve one request of ``prompt + completion`` tokens in all scopes, or say why not in the first that is full.

    ``stated`` tells that the client gave the bound of the answer itself; a bound that we assumed shrinks to
    what the limits can hold, so that a small limit still admits somebody.
    """
    price = price or FREE
    lock = table.lock
    if lock is None:
        return _admit(table, scopes, at, prompt, completion, stated, price)
    with lock:
        return _admit(table, scopes, at, prompt, completion, stated, price)


def _admit(
    table: LimitTable,
    scopes: Sequence[Scope],
    at: Instant,
    prompt: int,
    completion: int,
    stated: bool,  # noqa: FBT001 - internal; keywords cost time on every request
    price: Price,
) -> Reservation | Refused:
    if not stated:
        rooms = [room for scope in scopes if (room := scope.room(at, price)) is not None]
        if rooms:
            completion = max(1, min(completion, min(rooms) - prompt))
    tokens = prompt + completion
    microeur = 0 if price is FREE else price.of(prompt, completion)
    for scope in scopes:
        refused = scope.refusal(at, tokens, microeur)
        if refused is not None:
            return refused
    for scope in scopes:
        scope.reserve(tokens, microeur)
    return Reservation(table, scopes, price, at, tokens, microeur)


def overspent(scopes: Sequence[Scope], at: Instant) -> Refused | None:
    """Return whose money of the month is used up, before a question is asked that costs some; None: nobody's."""
    for scope in scopes:
        most = scope.limits.microeur_per_month
        if most is not None and scope.spent(at)[1] >= most:
            return Refused("month", 0, 1, at.month_left_seconds, scope.kind)
    return None


def charge(table: LimitTable, scopes: Sequence[Scope], at: Instant, tokens: int, microeur: int) -> None:
    """Count what was used without a reservation: a question's search."""
    with table.lock or nullcontext():
        for scope in scopes:
            scope.charge(at, tokens, microeur)
