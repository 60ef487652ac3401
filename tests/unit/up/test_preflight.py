"""What is checked before anything starts: the folder, the site, the database's URL."""

import os
from pathlib import Path

import pytest

from penstock.base.errors import InvalidInputError, StartupError
from penstock.up.preflight import LOCK_NAME, check_site, external_url, take_data_folder


def test_a_folder_is_made_private_and_held_until_it_is_let_go(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    handle = take_data_folder(folder)
    try:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / LOCK_NAME).read_text() == str(os.getpid())
        with pytest.raises(StartupError, match=f"process {os.getpid()}"):
            take_data_folder(folder)
    finally:
        os.close(handle)
    os.close(take_data_folder(folder))


def test_an_empty_folder_is_closed_to_others_and_a_full_one_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o755)
    os.close(take_data_folder(folder))
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o750)
    with pytest.raises(StartupError, match="chmod 700"):
        take_data_folder(folder)
    folder.chmod(0o710)  # what an access-control entry for the database's user looks like
    os.close(take_data_folder(folder))


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("kept")
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    (folder / LOCK_NAME).symlink_to(target)
    with pytest.raises(StartupError, match="cannot be used"):
        take_data_folder(folder)
    assert target.read_text() == "kept"


def test_sites() -> None:
    check_site("none")
    check_site("nvl72")
    check_site("3x8:H100")
    with pytest.raises(InvalidInputError, match="no simulated site"):
        check_site("moon")


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_way_to_name_postgresql_is_taken(scheme: str) -> None:
    assert external_url(f"{scheme}://u:p%40ss@h:5433/db?sslmode=require") == (
        "postgresql+psycopg://u:p%40ss@h:5433/db?sslmode=require"
    )
    assert external_url(None) is None


@pytest.mark.parametrize("text", ["hunter2", "mysql://u:hunter2@h/db", "postgresql://u:hunter2@h:port/db"])
def test_a_wrong_url_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(StartupError, match="PENSTOCK_DATABASE_URL") as caught:
        external_url(text)
    assert "hunter2" not in caught.value.sentence
