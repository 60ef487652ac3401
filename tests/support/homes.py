"""A temporary home for the whole run, so that no test reads or writes the files and settings of the person who runs it."""

import os
import shutil
import tempfile
from pathlib import Path

_FOLDERS = {
    "HOME": "home",
    "XDG_CONFIG_HOME": "config",
    "XDG_DATA_HOME": "data",
    "XDG_STATE_HOME": "state",
    "XDG_CACHE_HOME": "cache",
    "XDG_RUNTIME_DIR": "run",
}
_made: list[Path] = []


def move_away() -> Path:
    """Point HOME and the XDG folders to a new temporary folder and forget settings of the person; return it.

    ``PENSTOCK_*`` variables are dropped because a test must not reach the factory its runner works with,
    ``PG*`` because libpq reads them, proxies because they would carry requests past the network guard.
    """
    place = Path(tempfile.mkdtemp(prefix="penstock-home-"))
    _made.append(place)
    for name in list(os.environ):
        if name.startswith(("PENSTOCK_", "PG")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    for name, folder in _FOLDERS.items():
        (place / folder).mkdir(mode=0o700)
        os.environ[name] = str(place / folder)
    os.environ["NO_COLOR"] = "1"
    return place


def remove() -> None:
    """Remove every folder that ``move_away`` made in this process."""
    while _made:
        shutil.rmtree(_made.pop(), ignore_errors=True)
