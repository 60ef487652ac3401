"""The command that a counterfactual becomes: orderable as it is printed, or not printed at all."""

import shlex
from collections.abc import Mapping
from typing import Any

from penstock.catalog.base import editable_form, merge_order
from penstock.catalog.gpu.spec import FORM
from penstock.cli.explain import command_for
from penstock.cli.spec import filled_in


def offer(name: str, fixed: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "fixed": dict(fixed), "form": editable_form(FORM, fixed)}


GB200 = offer("gb200", {"device_class": "GB200", "slices": 0})
ANY = offer("gpu", {})
SERVICE = {
    "project_id": "prj_1",
    "spec": merge_order(FORM, GB200["fixed"], {"count": 8, "same_nvlink_domain": True}),
}


def changed(**changes: object) -> dict[str, object]:
    return {"changes": changes}


def ordered(command: str, offers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the spec that a printed command orders."""
    words = shlex.split(command)
    assert words[:3] == ["penstock", "service", "order"]
    chosen = next(one for one in offers if one["name"] == words[3])
    settings = [words[n + 1] for n, word in enumerate(words) if word == "--set"]
    return merge_order(FORM, chosen["fixed"], filled_in(chosen["form"], settings, None))


def test_the_own_offer_is_ordered_with_the_change_and_without_defaults() -> None:
    command = command_for(SERVICE, [GB200, ANY], changed(count=6))
    assert (
        command == "penstock service order gb200 --set count=6 --set same_nvlink_domain=true --project prj_1"
    )
    assert ordered(command, [GB200, ANY]) == {**SERVICE["spec"], "count": 6}


def test_a_change_of_what_the_own_offer_fixes_needs_another_offer() -> None:
    command = command_for(SERVICE, [GB200, ANY], changed(device_class="H100"))
    assert command is not None
    assert command.startswith("penstock service order gpu ")
    assert ordered(command, [GB200, ANY]) == {**SERVICE["spec"], "device_class": "H100"}


def test_where_no_offer_allows_the_change_there_is_no_command() -> None:
    assert command_for(SERVICE, [GB200], changed(device_class="H100")) is None
    assert command_for(SERVICE, [], changed(count=1)) is None
    assert command_for(SERVICE, [ANY], changed(node_memory_bytes=1)) is None


def test_a_value_that_a_shell_would_take_apart_is_quoted() -> None:
    command = command_for(SERVICE, [offer("any thing", {})], changed(device_class="A 100; rm -rf /"))
    assert command is not None
    assert "order 'any thing' " in command
    assert "device_class='A 100; rm -rf /'" in command
    assert "device_class=A 100; rm -rf /" in shlex.split(command)
