"""What the host is told of a volume that is to arrive."""

from typing import Any

from penstock.catalog.vm.volume import arriving_config


def row(**more: Any) -> dict[str, Any]:
    return {"id": "vol_1", "size_gib": 10, "restores": 2, "detail": None, "sealed_key": None, **more}


def test_it_arrives_empty_with_its_restores_done() -> None:
    assert arriving_config(row()) == {
        "volume": "vol_1",
        "size_gib": 10,
        "restores": 2,
        "arriving": 1,
        "snapshots": [],
        "carried": {},
    }


def test_room_is_made_for_the_snapshots_that_it_has_by_their_size() -> None:
    config = arriving_config(row(detail={"snapshots": {"vsn_b": 2048, "vsn_a": 1024}}))
    assert config["snapshots"] == ["vsn_a", "vsn_b"]
    assert config["carried"] == {"vsn_b": 2048, "vsn_a": 1024}


def test_an_encrypted_one_says_so_and_its_key_is_not_told() -> None:
    config = arriving_config(row(sealed_key=b"sealed"))
    assert config["encrypted"] == 1
    assert "sealed" not in str(config)
