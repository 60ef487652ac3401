"""The files that a batch ends with: its answers, and the requests that failed."""

import hashlib
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.ids import new_id
from penstock.domain.batch import output_line
from penstock.domain.quota import Measure
from penstock.store import batch as batch_store
from penstock.store import file as file_store
from penstock.store import quota as quota_store
from penstock.store.rows import Row

_PAGE = 500


def write_files(connection: Connection, row: Row, now: datetime) -> dict[str, Any]:
    """Write output and error file of a batch, remove its requests; return the files' ids for its row.

    An answer that no longer fits into the output file is named in the error file: it was made and is billed.
    """
    output, left = _text(connection, row, "completed", limits.BATCH_OUTPUT_BYTES_MAX)
    errors, _ = _text(connection, row, "failed", limits.BATCH_OUTPUT_BYTES_MAX)
    errors += "".join(
        output_line(
            row["id"],
            {**line, "status_code": None, "code": "output_too_large", "message": "the output file is full"},
        )
        + "\n"
        for line in left
    )
    found: dict[str, Any] = {}
    for name, text in (("output", output), ("error", errors)):
        if text:
            found[f"{name}_file_id"] = _write(
                connection, row, f"{row['id']}_{name}.jsonl", text.encode(), now
            )
    batch_store.remove_lines(connection, row["id"])
    return found


def _text(connection: Connection, row: Row, state: str, bytes_max: int) -> tuple[str, list[Row]]:
    """Return the lines of a file, and the requests that no longer fit."""
    parts: list[str] = []
    left: list[Row] = []
    size, after = 0, 0
    while lines := batch_store.answered(connection, row["id"], state, after, _PAGE):
        for line in lines:
            text = output_line(row["id"], line) + "\n"
            size += len(text.encode())
            if size <= bytes_max:
                parts.append(text)
            else:
                left.append(line)
        after = lines[-1]["number"]
    return "".join(parts), left


def _write(connection: Connection, row: Row, name: str, data: bytes, now: datetime) -> str:
    file_id = new_id("file", now)
    file_store.insert(
        connection,
        {
            "id": file_id,
            "tenant_id": row["tenant_id"],
            "project_id": row["project_id"],
            "name": name,
            "purpose": "batch_output",
            "size_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "content": data,
            "created_by": row["principal_id"],
            "created_at": now,
            "expires_at": now + limits.FILE_LIFE,
        },
    )
    # Unchecked: what was answered must be had, even where the quota is full by now.
    quota_store.take(connection, row["tenant_id"], row["project_id"], {Measure.FILE_BYTES.value: len(data)})
    return file_id
