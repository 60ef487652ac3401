"""The openb traces beside the repository, for tests that compare with published figures."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "shared" / "traces" / "openb"
NODES = FOLDER / "openb_node_list_gpu_node.csv"
needs_openb = pytest.mark.skipif(not NODES.exists(), reason="the traces are not beside the repository")


def pods(name: str) -> Path:
    """Return the request list ``name``."""
    return FOLDER / f"openb_pod_list_{name}.csv.gz"
