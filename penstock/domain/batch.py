"""Batches: many requests in one file, answered when there is room, for less. Their states, and how a file is read.

The shape is that of OpenAI's batch API (https://platform.openai.com/docs/api-reference/batch).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from penstock.base import limits

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
COMPLETION_WINDOW = "24h"


class BatchState(StrEnum):
    """How far a batch has come; the values are OpenAI's."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


STATE_SENTENCES: dict[BatchState, str] = {
    BatchState.VALIDATING: "its file is being read",
    BatchState.FAILED: "its file cannot be used; `errors` says why",
    BatchState.IN_PROGRESS: "its requests are answered when there is room",
    BatchState.FINALIZING: "every request has its answer; the output is being written",
    BatchState.COMPLETED: "done; the output file and, if any request failed, the error file are there",
    BatchState.EXPIRED: "its time ran out; what was answered until then is in the output file",
    BatchState.CANCELLING: "no further request is begun; those that run end first",
    BatchState.CANCELLED: "cancelled; what was answered until then is in the output file",
}
TRANSITIONS: frozenset[tuple[BatchState, BatchState]] = frozenset(
    {
        (BatchState.VALIDATING, BatchState.IN_PROGRESS),
        (BatchState.VALIDATING, BatchState.FAILED),
        (BatchState.VALIDATING, BatchState.CANCELLING),
        (BatchState.IN_PROGRESS, BatchState.FINALIZING),
        (BatchState.IN_PROGRESS, BatchState.CANCELLING),
        (BatchState.IN_PROGRESS, BatchState.EXPIRED),
        (BatchState.FINALIZING, BatchState.COMPLETED),
        (BatchState.CANCELLING, BatchState.CANCELLED),
    }
)
ENDED = frozenset({BatchState.FAILED, BatchState.COMPLETED, BatchState.EXPIRED, BatchState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Line:
    """One request of a batch: ``body`` is its JSON as text."""

    number: int
    custom_id: str
    body: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a line of a file; ``line`` counts from 1, None: with the file."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the problem as the API shows it."""
        return {"code": self.code, "message": self.message, "param": self.param, "line": self.line}


def read_lines(data: bytes, endpoint: str) -> tuple[list[Line], list[Problem]]:
    """Return the requests of a JSONL file, and what is wrong with it; at most ``BATCH_PROBLEMS_MAX`` problems.

    One model a file, as in OpenAI's API; every ``custom_id`` once; no streams.
    """
    lines: list[Line] = []
    problems: list[Problem] = []
    ids: set[str] = set()
    models: set[str] = set()
    for number, raw in enumerate(_texts(data), 1):
        if len(problems) >= limits.BATCH_PROBLEMS_MAX:
            break
        if len(lines) >= limits.BATCH_LINES_MAX:
            problems.append(
                Problem(
                    "too_many_requests",
                    f"a batch has at most {limits.BATCH_LINES_MAX} requests",
                    None,
                    number,
                )
            )
            break
        found = _line(raw, number, endpoint)
        if isinstance(found, Problem):
            problems.append(found)
            continue
        line, model = found
        if line.custom_id in ids:
            problems.append(
                Problem(
                    "duplicate_custom_id", f"custom_id {line.custom_id!r} is there twice", "custom_id", number
                )
            )
        models.add(model)
        if len(models) > 1:
            problems.append(
                Problem("mismatched_model", "all requests of a batch go to one model", "body.model", number)
            )
            break
        ids.add(line.custom_id)
        lines.append(line)
    if not lines and not problems:
        problems.append(Problem("empty_file", "the file holds no request"))
    return lines, problems


def _texts(data: bytes) -> Iterable[bytes]:
    """Return the lines of a file; the one after the last line's end is none."""
    lines = data.split(b"\n")
    return lines[:-1] if lines and not lines[-1].strip() else lines


def _line(raw: bytes, number: int, endpoint: str) -> tuple[Line, str] | Problem:
    def wrong(code: str, message: str, param: str | None = None) -> Problem:
        return Problem(code, message, param, number)

    if len(raw) > limits.BATCH_LINE_BYTES_MAX:
        return wrong("line_too_long", f"a request has at most {limits.BATCH_LINE_BYTES_MAX} bytes")
    try:
        value: object = json.loads(raw)
    except (ValueError, RecursionError):
        return wrong("invalid_json_line", "this line is no JSON object")
    if not isinstance(value, dict):
        return wrong("invalid_json_line", "this line is no JSON object")
    fields = cast("dict[str, object]", value)
    problem = _wrong_field(fields, endpoint)
    if problem is not None:
        return wrong(*problem)
    request = cast("dict[str, object]", fields["body"])
    text = json.dumps(request, ensure_ascii=False, separators=(",", ":"))
    if "\0" in str(fields["custom_id"]) or "\\u0000" in text:
        return wrong("invalid_request", "a text may hold no NUL character", "body")
    return Line(number, str(fields["custom_id"]), text), str(request["model"])


def _wrong_field(fields: Mapping[str, object], endpoint: str) -> tuple[str, str, str] | None:
    """Return code, sentence and name of the first field that is wrong, None if all are right."""
    unknown = sorted(fields.keys() - {"custom_id", "method", "url", "body"})
    custom_id, body = fields.get("custom_id"), fields.get("body")
    request = cast("dict[str, object]", body) if isinstance(body, dict) else {}
    model = request.get("model")
    named = isinstance(custom_id, str) and 0 < len(custom_id) <= limits.BATCH_CUSTOM_ID_CHARACTERS_MAX
    checks = (
        (
            not unknown,
            "unknown_field",
            f"there is no field {(unknown or [''])[0][:80]!r}",
            (unknown or [""])[0][:80],
        ),
        (named, "invalid_custom_id", "custom_id must be a text of 1 to 128 characters", "custom_id"),
        (fields.get("method") == "POST", "invalid_method", "method must be POST", "method"),
        (
            fields.get("url") == endpoint,
            "invalid_url",
            f"url must be {endpoint}, the endpoint of the batch",
            "url",
        ),
        (isinstance(body, dict), "invalid_request", "body must be a JSON object", "body"),
        (isinstance(model, str) and model, "invalid_request", "body.model must name a model", "body.model"),
        (
            not request.get("stream"),
            "invalid_request",
            "body.stream cannot be true in a batch",
            "body.stream",
        ),
    )
    return next(((code, sentence, name) for good, code, sentence, name in checks if not good), None)


def output_line(batch_id: str, line: Mapping[str, Any]) -> str:
    """Return the line of an output or error file for a request that has its answer, or that will get none."""
    response: dict[str, Any] | None = None
    if line["status_code"] is not None:
        response = {
            "status_code": line["status_code"],
            "request_id": line["record_id"] or "",
            "body": json.loads(line["answer"]) if line["answer"] else {},
        }
    document = {
        "id": f"{batch_id}_{line['number']}",
        "custom_id": line["custom_id"],
        "response": response,
        "error": None if line["code"] is None else {"code": line["code"], "message": line["message"]},
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def model_in(body: str) -> str:
    """Return the model that a request names."""
    return str(json.loads(body)["model"])


def pass_purpose(batch_id: str) -> str:
    """Return what the pass of a batch is sealed for: what its worker shows to the gateway."""
    return f"batch {batch_id}"
