"""Read a document in a process of its own; plain text, which has no parser, is read here."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import orjson

import penstock
from penstock.base import limits
from penstock.domain.document import Extracted, Section
from penstock.drivers.documents.kinds import Media
from penstock.drivers.documents.readers import ReadError, read


def extract(data: bytes, media: Media) -> Extracted:
    """Return the text of a document; raises ReadError with the reason.

    Takes at most ``limits.READER_SECONDS`` of a processor and twice that by the clock.
    """
    if media is Media.TEXT:
        return read(data, media)
    answer = _ask_worker(data, media)
    error = cast("list[str] | None", answer.get("error"))
    if error is not None:
        raise ReadError(*error)
    sections = tuple(Section(*fields) for fields in cast("list[list[Any]]", answer["sections"]))
    return Extracted(cast("str", answer["text"]), sections, cast("int | None", answer["pages"]))


def _ask_worker(data: bytes, media: Media) -> Mapping[str, object]:
    command = [sys.executable, "-P", "-m", "penstock.drivers.documents.worker", media.value]
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(Path(penstock.__file__).parents[1])}
    try:
        done = subprocess.run(  # noqa: S603 - our own module, and a media type of ours
            command,
            input=data,
            capture_output=True,
            env=environment,
            timeout=2 * limits.READER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ReadError("took_too_long", "reading it took too long") from error
    if done.returncode == 0:
        return cast("Mapping[str, object]", orjson.loads(done.stdout))
    if done.returncode in {-signal.SIGXCPU, -signal.SIGKILL}:
        raise ReadError("took_too_long", "reading it took too much time or memory")
    last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    raise ReadError("corrupt", f"the reader ended with {done.returncode}: {last[:200]}")
