"""Volumes of the kind ``nfs`` on a real server, mounted by a real client: ``tests/support/over_nfs.py``, run where there is one.

The kernel that tests run on need not have a client, so a machine in user mode mounts the server. It asks for the server's
death and return by files in a folder that both see.
"""

import os
import time
from pathlib import Path

import pytest

from tests.support import hypervisors, nfs_server, user_mode
from tests.support.nfs_server import NfsServer
from tests.support.user_mode import HERE, REPOSITORY, UserModeMachine

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("nfs"), pytest.mark.timeout(600)]
_INSIDE = "tests/support/over_nfs.py"
_SCRIPT = """\
set -e
mount -t nfs4 -o vers=4.1,hard,sec=sys {server}:/volumes /mnt/nfs
export OVER_NFS_MOUNT=/mnt/nfs OVER_NFS_EXPORT={export} OVER_NFS_WISHES={wishes} PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
exec {repository}/.venv/bin/python -m pytest -q -c {folder}/pytest.ini --rootdir={repository} --import-mode=importlib \\
    --noconftest -p tests.fixtures.hypervisors -p no:cacheprovider --basetemp=/mnt/disk/tests -ra --durations=8 {options} {inside}
"""
_PYTEST = "[pytest]\npythonpath = {repository}\nmarkers =\n    vm: starts machines\n    xdist_group: unused\n    timeout: unused\nfilterwarnings = error\n"


def test_volumes_live_on_a_real_server_that_dies_and_comes_back(tmp_path: Path) -> None:
    for reason in (user_mode.missing(), nfs_server.missing(), hypervisors.missing()):
        if reason is not None:
            pytest.skip(reason)
    machine, wishes = UserModeMachine(tmp_path), tmp_path / "wishes"
    server = NfsServer(tmp_path / "server", machine.enter)
    wishes.mkdir()
    (tmp_path / "pytest.ini").write_text(_PYTEST.format(repository=REPOSITORY))
    script = _SCRIPT.format(
        server=HERE,
        export=server.export,
        wishes=wishes,
        repository=REPOSITORY,
        folder=tmp_path,
        inside=_INSIDE,
        options=os.environ.get("OVER_NFS", ""),
    )
    try:
        machine.open()
        server.start()
        machine.start(script)
        while not machine.ended():
            _grant(server, wishes)
            time.sleep(0.05)
        said = machine.said()
    finally:
        server.kill()
        machine.close()
    assert machine.status() == 0, said[-20_000:]
    assert " passed" in said
    assert "skipped" not in said, said[-4_000:]
    assert list(server.export.iterdir()) == [], "every test took its volumes away"


def _grant(server: NfsServer, wishes: Path) -> None:
    """Do to the server what the machine inside asks for."""
    for wish in sorted(wishes.glob("*.wish")):
        (server.kill if wish.stem.endswith("kill") else server.start)()
        wish.rename(wish.with_suffix(".done"))
