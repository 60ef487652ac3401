"""The process that reads one document: bytes on standard input, JSON on standard output, then the end.

    python -m penstock.drivers.documents.worker MEDIA_TYPE

A document is a stranger's program for a parser. So it is read in a process that can neither take more memory
nor more processor time than is allowed, nor open a file of any size.
"""

import logging
import resource
import sys

import orjson

from penstock.base import limits
from penstock.drivers.documents.kinds import Media
from penstock.drivers.documents.readers import ReadError, read


def main(media: str) -> None:
    """Read the document and say what is in it, or why not."""
    resource.setrlimit(resource.RLIMIT_AS, (limits.READER_MEMORY_BYTES, limits.READER_MEMORY_BYTES))
    seconds = int(limits.READER_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    logging.getLogger("pypdf").setLevel(logging.ERROR)
    data = sys.stdin.buffer.read(limits.DOCUMENT_BYTES_MAX + 1)
    try:
        found = read(data, Media(media))
    except ReadError as error:
        answer: dict[str, object] = {"error": [error.code, error.sentence]}
    except (MemoryError, RecursionError):
        answer = {"error": ["took_too_long", "reading it takes more memory than is allowed"]}
    else:
        sections = [[one.start, one.end, one.heading, one.page] for one in found.sections]
        answer = {"text": found.text, "sections": sections, "pages": found.pages}
    sys.stdout.buffer.write(orjson.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])
