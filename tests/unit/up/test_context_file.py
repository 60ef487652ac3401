"""The factory that was just started is reachable by name, and what the person had is kept."""

from pathlib import Path

import pytest

from penstock.actions.bootstrap import FirstKeys
from penstock.cli import context as contexts
from penstock.cli.context import Contexts, Target
from penstock.up.context_file import write_contexts

KEYS = FirstKeys("psk_operator", "psk_demo", "prj_1")
API, GATEWAY = "http://127.0.0.1:7070", "http://127.0.0.1:7071"
LAB = Target("lab", "http://lab", "psk_lab", "http://lab-gateway")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("URL", "API_KEY", "GATEWAY_URL", "CONTEXT"):
        monkeypatch.delenv(f"PENSTOCK_{name}", raising=False)


def test_a_new_person_gets_both_contexts_and_speaks_as_the_tenant() -> None:
    write_contexts(KEYS, API, GATEWAY)
    assert contexts.resolve() == Target("demo", API, "psk_demo", GATEWAY)
    assert contexts.resolve("operator") == Target("operator", API, "psk_operator", GATEWAY)


def test_a_context_that_was_chosen_stays_chosen_and_others_stay() -> None:
    contexts.save(Contexts("lab", {"lab": LAB}))
    write_contexts(KEYS, API, GATEWAY)
    assert contexts.load().current == "lab"
    assert contexts.resolve("lab") == LAB
    assert set(contexts.load().targets) == {"lab", "demo", "operator"}


def test_a_choice_that_leads_nowhere_is_replaced() -> None:
    contexts.save(Contexts("gone", {"lab": LAB}))
    write_contexts(KEYS, API, GATEWAY)
    assert contexts.load().current == "demo"


def test_a_second_start_brings_the_keys_and_ports_up_to_date() -> None:
    write_contexts(KEYS, API, GATEWAY)
    write_contexts(FirstKeys("psk_o2", "psk_d2", "prj_1"), "http://127.0.0.1:8080", GATEWAY)
    assert contexts.resolve("demo").api_key == "psk_d2"
    assert contexts.resolve("operator").url == "http://127.0.0.1:8080"
