"""No test touches the files of the person who runs it."""

import os
import pwd
from pathlib import Path

import platformdirs


def test_the_home_is_a_temporary_one() -> None:
    real = Path(pwd.getpwuid(os.getuid()).pw_dir)
    for place in (
        Path.home(),
        platformdirs.user_data_path("penstock"),
        platformdirs.user_config_path("penstock"),
    ):
        assert not place.is_relative_to(real)
        assert "penstock-home-" in str(place)


def test_settings_of_the_person_are_gone() -> None:
    assert not [name for name in os.environ if name.startswith("PENSTOCK_")]
    assert not [name for name in os.environ if name in {"PGHOST", "PGUSER", "PGPASSWORD", "PGDATABASE"}]
