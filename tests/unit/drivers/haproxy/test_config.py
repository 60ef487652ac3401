"""What HAProxy is told and what it says: pure texts, and that it accepts every form of the first."""

import itertools
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from penstock.base.clock import SystemClock
from penstock.domain.load_balancer import Algorithm, CheckKind, Mode
from penstock.drivers.haproxy.config import CERTIFICATES, EMPTY, key_of, server_name, text
from penstock.drivers.haproxy.process import program
from penstock.drivers.haproxy.stats import read
from penstock.drivers.load_balancer.contract import a_balancer
from penstock.drivers.load_balancer.model import parse
from penstock.drivers.pki import project_authority

CERTIFICATE = "crt_" + "0" * 26
PLACE = {
    "bridge": "pnb7001",
    "tap": "pnt000000000001",
    "mac": "0a:00:00:00:00:01",
    "address": "10.0.0.9",
    "prefix_length": 24,
    "gateway": "10.0.0.1",
    "mtu": 1_450,
}
MEMBERS = [("10.0.0.2", 8_000), ("10.0.0.3", 8_000)]


def test_members_are_asked_once_although_two_backends_have_them(tmp_path: Path) -> None:
    listeners = [{"port": 80, "mode": "http"}, {"port": 5_432, "mode": "tcp"}]
    lines = text(parse(a_balancer(PLACE, MEMBERS, listeners=listeners)), tmp_path).splitlines()
    servers = [line for line in lines if line.startswith("    server ")]
    assert [("check inter" in line, "track" in line) for line in servers] == [(True, False)] * 2 + [
        (False, True)
    ] * 2
    member = parse(a_balancer(PLACE, MEMBERS)).members[0]
    assert key_of(server_name(member)) == member.key == "10.0.0.2:8000"


def test_who_is_ready_to_take_over_asks_nobody(tmp_path: Path) -> None:
    lines = text(parse(a_balancer(PLACE, MEMBERS, standby=True)), tmp_path).splitlines()
    servers = [line.strip() for line in lines if line.startswith("    server ")]
    assert servers == [
        "server m10.0.0.2_8000 10.0.0.2:8000 weight 1",
        "server m10.0.0.3_8000 10.0.0.3:8000 weight 1",
    ]
    assert not [line for line in lines if "httpchk" in line]


@pytest.mark.skipif(
    program() is None, reason="HAProxy is not installed here; Debian's package 'haproxy' is enough"
)
def test_haproxy_accepts_every_form(tmp_path: Path) -> None:
    now = SystemClock().now()
    made = project_authority.issue(project_authority.new(now, "x"), ["www.test"], now, timedelta(days=1))
    (tmp_path / CERTIFICATES).mkdir()
    (tmp_path / EMPTY).mkdir()
    (tmp_path / CERTIFICATES / f"{CERTIFICATE}.pem").write_text(made.chain_pem + made.key_pem)
    forms: list[list[Mode]] = [[one] for one in Mode] + [list(Mode)]
    for number, (modes, algorithm, check) in enumerate(itertools.product(forms, Algorithm, CheckKind)):
        listeners = [
            {"port": 80 + place, "mode": mode, **({"certificate": CERTIFICATE} if mode is Mode.HTTPS else {})}
            for place, mode in enumerate(modes)
        ]
        asked = {"kind": check, "path": "/a?b=c&d=(e)%20" if check is CheckKind.HTTP else None}
        checked = {"interval_ms": 200, "rise": 1, "fall": 20}
        config = a_balancer(
            PLACE, MEMBERS[number % 3 :], listeners=listeners, algorithm=algorithm, check={**asked, **checked}
        )
        file = tmp_path / "haproxy.cfg"
        file.write_text(text(parse(config), tmp_path))
        ended = subprocess.run(
            [program() or "", "-c", "-q", "-f", str(file)],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (ended.returncode, ended.stdout + ended.stderr) == (0, ""), file.read_text()


STAT = """\
# pxname,svname,scur,stot,bin,bout,status,weight,check_status,
l80,FRONTEND,2,7,100,900,OPEN,,,
tcp,m10.0.0.2_8000,0,4,50,400,UP,1,L4OK,
tcp,m10.0.0.3_8000,0,0,0,0,DOWN,1,* L4CON,
tcp,m10.0.0.4_8000,0,0,0,0,UP,0,L4OK,
tcp,m10.0.0.5_8000,0,0,0,0,UP 1/3,1,INI,
tcp,BACKEND,0,4,50,400,UP,1,,
l81,FRONTEND,0,1,1,1,OPEN,,,
http,m10.0.0.2_8000,0,0,0,0,UP,1,,

"""


def test_what_haproxy_says_is_understood() -> None:
    said = read(STAT)
    assert said.members == {
        "10.0.0.2:8000": ("up", "L4OK"),
        "10.0.0.3:8000": ("down", "L4CON"),
        "10.0.0.4:8000": ("draining", "L4OK"),
        "10.0.0.5:8000": ("unknown", "INI"),
    }
    assert (said.sessions, said.received_bytes, said.sent_bytes, said.open_sessions) == (8, 101, 901, 2)
