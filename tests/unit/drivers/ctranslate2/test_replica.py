"""The folder of one replica: its state file, its log, its config."""

from pathlib import Path
from typing import Any

import pytest

from penstock.base.errors import InvalidInputError
from penstock.drivers.ctranslate2.files import Identity, write_json
from penstock.drivers.ctranslate2.replica import Failure, Replica, ReplicaConfig, State

CONFIG = ReplicaConfig("/models/x", "x", 2, "cpu")


def test_the_state_survives_its_file(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "alc")
    assert replica.load() is None
    state = State("alc", 3, CONFIG, [5, 6], Identity.of_this_process(6), 7, Failure("c", "m", "s"))
    replica.save(state)
    assert replica.load() == state
    replica.save(State("alc", 4, CONFIG))
    assert replica.load() == State("alc", 4, CONFIG)


@pytest.mark.parametrize(
    "change", [{"config": {}}, {"config": None}, {"failure": 3}, {"failure": ["too short"]}]
)
def test_a_state_that_is_not_ours_reads_as_none(tmp_path: Path, change: dict[str, Any]) -> None:
    replica = Replica(tmp_path / "alc")
    replica.save(State("alc", 1, CONFIG))
    write_json(replica.folder / "state.json", {**State("alc", 1, CONFIG).as_json(), **change})
    assert replica.load() is None


def test_the_config_has_defaults_and_parses_what_it_writes() -> None:
    assert ReplicaConfig.parse({"model_dir": "/m", "served_model_name": "n"}) == ReplicaConfig(
        "/m", "n", 1, "auto"
    )
    written: Any = CONFIG.as_json()
    assert ReplicaConfig.parse(written) == CONFIG
    with pytest.raises(InvalidInputError) as caught:
        ReplicaConfig.parse({**written, "served_model_name": "a\nb"})
    assert caught.value.field == "served_model_name"


def test_what_the_server_announces_is_read_with_care(tmp_path: Path) -> None:
    replica = Replica(tmp_path)
    assert (replica.port(), replica.load_error(), replica.identity(None)) == (None, None, None)
    identity = Identity.of_this_process(1)
    write_json(
        tmp_path / "port.json", {**identity.as_json(), "port": 80, "error": {"code": "c", "message": "m"}}
    )
    assert (replica.port(), replica.load_error(), replica.identity(None)) == (80, ("c", "m"), identity)
    write_json(tmp_path / "port.json", {"port": "80", "error": "c"})
    assert (replica.port(), replica.load_error(), replica.identity(None)) == (None, None, None)


def test_the_log_tail_is_short_and_text(tmp_path: Path) -> None:
    replica = Replica(tmp_path)
    assert replica.log_tail() == ""
    replica.log_file.write_bytes(b"\xff" + b"".join(b"line %d\n" % number for number in range(1_000)))
    assert replica.log_tail().splitlines() == [f"line {number}" for number in range(992, 1_000)]


def test_deleting_leaves_nothing_even_after_a_delete_that_was_cut_short(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "alc")
    (tmp_path / ".removing-alc").mkdir()
    (tmp_path / ".removing-alc" / "left").write_text("x")
    replica.save(State("alc", 1, CONFIG))
    replica.delete()
    assert list(tmp_path.iterdir()) == []
