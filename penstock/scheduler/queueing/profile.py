"""How many GPUs will be free when, as a step function: what reservations are made on."""

from bisect import bisect_left, bisect_right, insort


class Profile:
    """Free GPUs over time, known from ``now_s`` on. ``_free[i]`` holds from ``_times[i]`` to the next time."""

    def __init__(self, free: int, now_s: int = 0) -> None:
        self._times = [now_s]
        self._free = [free]

    @property
    def steps(self) -> int:
        """How many steps the profile has."""
        return len(self._times)

    def free_at(self, time_s: int) -> int:
        """Return what is free at ``time_s``."""
        return self._free[max(0, bisect_right(self._times, time_s) - 1)]

    def earliest_s(self, gpus: int, duration_s: int, from_s: int) -> int | None:
        """Return the first time from ``from_s`` on at which ``gpus`` stay free for ``duration_s``; None if never."""
        times, free = self._times, self._free
        step = max(0, bisect_right(times, from_s) - 1)
        start = from_s
        while True:
            while step < len(times) and free[step] < gpus:
                step += 1
                if step == len(times):
                    return None
                start = times[step]
            ahead = step
            while ahead < len(times) and times[ahead] < start + duration_s and free[ahead] >= gpus:
                ahead += 1
            if ahead == len(times) or times[ahead] >= start + duration_s:
                return start
            step = ahead

    def take(self, gpus: int, start_s: int, end_s: int) -> None:
        """Take ``gpus`` (negative: give back) from ``start_s`` to ``end_s``."""
        if end_s <= start_s:
            return
        first, last = self._cut(start_s), self._cut(end_s)
        for step in range(first, last):
            self._free[step] -= gpus
        self._join(last)
        self._join(first)

    def next_s(self, after_s: int) -> int:
        """Return the first time after ``after_s`` at which the profile changes, the next second if it never does."""
        step = bisect_right(self._times, after_s)
        return self._times[step] if step < len(self._times) else after_s + 1

    def forget(self, before_s: int) -> None:
        """Drop what is over, so that the profile stays as long as its future."""
        keep = bisect_right(self._times, before_s) - 1
        if keep > 0:
            del self._times[:keep], self._free[:keep]

    def _join(self, step: int) -> None:
        """Drop a step at which nothing changes any more."""
        if 0 < step < len(self._times) and self._free[step] == self._free[step - 1]:
            del self._times[step], self._free[step]

    def _cut(self, time_s: int) -> int:
        step = bisect_left(self._times, time_s)
        if step == len(self._times) or self._times[step] != time_s:
            self._times.insert(step, time_s)
            self._free.insert(step, self._free[max(0, step - 1)])
        return step


class Ends:
    """When what runs is expected to give back its GPUs, in order."""

    def __init__(self) -> None:
        self._ends: list[tuple[int, int, int]] = []

    def add(self, end_s: int, job_id: int, gpus: int) -> None:
        """Note that ``job_id`` gives back ``gpus`` at ``end_s``."""
        insort(self._ends, (end_s, job_id, gpus))

    def drop(self, end_s: int, job_id: int, gpus: int) -> None:
        """Forget an end that was added; ValueError if it was not."""
        index = bisect_left(self._ends, (end_s, job_id, gpus))
        if index == len(self._ends) or self._ends[index] != (end_s, job_id, gpus):
            raise ValueError(f"no end of job {job_id} at {end_s}")
        del self._ends[index]

    def shadow(self, gpus: int, free: int, now_s: int) -> tuple[int, int]:
        """Return when ``gpus`` will be free at the earliest, and how many more than that will be free then.

        EASY's shadow time and extra GPUs (Lifka 1995; Mu'alem and Feitelson, IEEE TPDS 2001).
        """
        if free >= gpus:
            return now_s, free - gpus
        for end_s, _, given_back in self._ends:
            free += given_back
            if free >= gpus:
                return max(end_s, now_s), free - gpus
        raise ValueError(f"{gpus} GPUs are never free: the cluster has fewer")
