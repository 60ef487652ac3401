"""Node and request lists: what is read, and what is refused with its line."""

import gzip
from pathlib import Path

import pytest

from penstock.base.errors import InvalidInputError
from penstock.scheduler.packing.residual import NodeKind
from penstock.scheduler.packing.shape import ANY_MODEL
from penstock.twin.place.traces import read_nodes, read_pods

NODES = "sn,cpu_milli,memory_mib,gpu,model\na,64000,262144,2,P100\nb,32000,131072,0,\nc,96000,393216,8,G2\n"
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"


def write(folder: Path, text: str, *, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refusal(folder: Path, pods: str) -> str:
    """Return the sentence with which a request list is refused."""
    fleet = read_nodes(write(folder, NODES, name="nodes.csv"))
    with pytest.raises(InvalidInputError) as refused:
        read_pods(write(folder, pods), fleet)
    return refused.value.sentence


def test_nodes_and_requests_are_read_plain_and_gzipped(tmp_path: Path) -> None:
    fleet = read_nodes(write(tmp_path, NODES))
    assert fleet.models == ("G2", "P100")
    assert fleet.nodes == [
        NodeKind(64_000, 262_144, 2, 1),
        NodeKind(32_000, 131_072, 0, -1),
        NodeKind(96_000, 393_216, 8, 0),
    ]
    assert fleet.capacity_milli == 10_000
    lines = "x,1000,10,1,470,\ny,500,5,0,,\nz,1000,10,1,470,\nw,8000,1,2,1000,P100|V100\n"
    packed = tmp_path / "pods.csv.gz"
    packed.write_bytes(gzip.compress((PODS + lines).encode()))
    found = read_pods(packed, fleet)
    assert len(found.shapes) == 3
    assert found.rows.tolist() == [1, 0, 1, 2]
    assert found.shapes.models.tolist() == [ANY_MODEL, ANY_MODEL, 0b10]
    assert found.shapes.total_milli.tolist() == [0, 470, 2_000]


def test_the_columns_of_the_published_lists_may_be_there(tmp_path: Path) -> None:
    extra = PODS.strip() + ",qos,pod_phase,creation_time,deletion_time,scheduled_time\n"
    fleet = read_nodes(write(tmp_path, NODES))
    assert len(read_pods(write(tmp_path, extra + "x,1,1,1,1000,,LS,Running,0,9,0\n"), fleet).rows) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x,-1,10,1,470,", "line 2: cpu_milli is '-1'"),
        ("x,1,1.5,1,470,", "line 2: memory_mib is '1.5'"),
        ("x,1,1,one,470,", "line 2: num_gpu is 'one'"),
        ("x,1,1,1,1001,", "line 2: gpu_milli is '1001'"),
        ("x,1,1,2,500,", "line 2: 2 devices of 500 milli"),
        ("x,1,1,0,500,", "line 2: 0 devices of 500 milli"),
        ("x,1,1,1,,", "line 2: 1 devices of 0 milli"),
        ("x,1,1,1", "line 2: 4 fields, the head has 6"),
        ("x,1,1,1,500,,9", "line 2: 7 fields, the head has 6"),
        ("x,97000,1,1,500,", "line 2: no node could ever hold 'x'"),
        ("x,1,1,4,1000,P100", "line 2: no node could ever hold 'x'"),
        ("x,1,1,1,500,H100", "line 2: no node could ever hold 'x'"),
        (f"x,{'9' * 400},1,1,500,", "line 2: cpu_milli is"),
        ('x,1,1,1,"500,', "line 2"),
        ("x,1,1,0,0,", "no request asks for a device"),
    ],
)
def test_a_wrong_request_is_refused_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    assert said in refusal(tmp_path, PODS + line + "\n")


def test_the_line_is_that_of_the_file(tmp_path: Path) -> None:
    assert "line 4: cpu_milli" in refusal(tmp_path, PODS + "x,1,1,1,500,\n\ny,?,1,1,500,\n")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,color", "unknown columns: 'color'"),
        ("name,cpu_milli,memory_mib,num_gpu,gpu_milli", "missing: gpu_spec"),
        ("name,name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec", "each once"),
        ("", "missing: name"),
    ],
)
def test_a_wrong_head_is_refused(tmp_path: Path, head: str, said: str) -> None:
    assert said in refusal(tmp_path, head + "\n")


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ("a,1,1,2,", "line 2: 2 devices of model ''"),
        ("a,1,1,0,P100", "line 2: 0 devices of model 'P100'"),
        ("a,1,1,1,P100\na,1,1,1,P100", "line 3: node 'a' is there twice"),
        ("a,1,1,99,P100", "line 2: gpu is '99'"),
        ("a,1,1,0,", "no node has a device"),
    ],
)
def test_a_wrong_node_is_refused(tmp_path: Path, nodes: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read_nodes(write(tmp_path, NODES.splitlines()[0] + "\n" + nodes + "\n"))
    assert said in refused.value.sentence


@pytest.mark.parametrize("content", [b"\x1f\x8bnonsense", b"\xff\xfe\x00"])
def test_what_is_no_csv_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError):
        read_nodes(path)
