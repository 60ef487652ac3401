"""Logs are one JSON object a line with level, logger and time, whoever wrote the record."""

import json
import logging
import logging.handlers
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from penstock.up.logs import LOG_FILES, configure_logs

NOISY = ("uvicorn.access", "httpx", "httpcore", "alembic")


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in NOISY}
    configured = structlog.get_config()
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.configure(**configured)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_structured_and_plain_records_look_alike(tmp_path: Path) -> None:
    file = tmp_path / "made" / "penstock.log"
    configure_logs(file)
    structlog.get_logger("ours").warning("gateway_died", code=3)
    logging.getLogger("theirs").error("broken %s", "pipe")
    ours, theirs = lines(file)
    assert (ours["event"], ours["code"], ours["level"], ours["logger"]) == (
        "gateway_died",
        3,
        "warning",
        "ours",
    )
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("broken pipe", "error", "theirs")
    assert ours["timestamp"].endswith("Z")
    assert theirs["timestamp"].endswith("Z")


def test_an_exception_stays_on_one_line_with_its_traceback(tmp_path: Path) -> None:
    file = tmp_path / "penstock.log"
    configure_logs(file)
    try:
        _ = {}["the-cause"]
    except KeyError as error:
        structlog.get_logger("ours").error("tick_failed", exc_info=error)
    (line,) = lines(file)
    assert "the-cause" in line["exception"]
    assert "Traceback" in line["exception"]


def test_chatter_of_libraries_is_left_out_and_their_warnings_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "penstock.log"
    configure_logs(file)
    for name in NOISY:
        # A uvicorn server that another test of this process ran without access log has cut its logger off.
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("matters")
    logging.getLogger("other").debug("detail")
    assert [line["event"] for line in lines(file)] == ["matters"] * len(NOISY)


def test_configuring_twice_writes_each_record_once_and_the_file_is_bounded(tmp_path: Path) -> None:
    file = tmp_path / "penstock.log"
    configure_logs(tmp_path / "first.log")
    first = logging.getLogger().handlers[0]
    configure_logs(file)
    first.close()
    logging.getLogger("x").warning("once")
    assert len(lines(file)) == 1
    assert lines(tmp_path / "first.log") == []
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logging.handlers.RotatingFileHandler)
    assert handler.maxBytes > 0
    assert handler.backupCount == LOG_FILES


def test_without_a_file_it_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(None)
    logging.getLogger("x").warning("seen")
    captured = capsys.readouterr()
    assert json.loads(captured.err)["event"] == "seen"
    assert captured.out == ""
