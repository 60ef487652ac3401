"""`penstock explain`: why a service is where it is, or why it waits and which commands would start it now."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from penstock.cli.errors import CliError
from penstock.cli.output import Column, Format, Kind, first_few
from penstock.cli.service import Service, find
from penstock.cli.session import Document, Session, command
from penstock.cli.spec import as_settings

_FIELDS = (
    Column("Service", "name"),
    Column("State", "state"),
    Column("Why", "headline"),
    Column("Decided at", "decision.at", Kind.TIME),
    Column("Outcome", "decision.outcome"),
    Column("Policy", "decision.policy"),
    Column("Replicas", "replicas"),
)
_CANDIDATES = (
    Column("NOT TAKEN", "place"),
    Column("CLASS", "device_class"),
    Column("HOLDS", "holds", Kind.COUNT),
    Column("BECAUSE", "sentence"),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "explain", examples=["penstock explain train-7", "penstock explain train-7 -o json"])(
        explain
    )


def explain(session: Session, service: Service) -> None:
    """Explain a placement: why here, why not yet, and what would succeed now."""
    service_id = find(session, service)
    told = session.client.get(f"/v1/services/{service_id}/explain")
    waiting: Document | None = told["explanation"]
    if waiting is not None and waiting["counterfactuals"]:
        ordered = session.client.get(f"/v1/services/{service_id}")
        offers = _offers_of_kind(session, ordered)
        for one in waiting["counterfactuals"]:
            one["command"] = command_for(ordered, offers, one) if one["orderable"] else None
    if session.output is not Format.TABLE:
        session.show(told, _FIELDS)
        return
    _write(session, told, waiting)


def _offers_of_kind(session: Session, service: Mapping[str, Any]) -> list[Document]:
    """Return the offers of the service's kind that may be ordered, its own one first."""
    try:
        offers, _ = session.client.items("/v1/offers", {"kind": service["kind"], "state": "active"})
    except CliError:
        return []  # this key may explain but not order: the sentences stand without commands
    return sorted(offers, key=lambda offer: offer["id"] != service["offer_id"])


def command_for(
    service: Mapping[str, Any], offers: Sequence[Mapping[str, Any]], counterfactual: Mapping[str, Any]
) -> str | None:
    """Return the command that orders the service as the counterfactual changes it; None if no offer allows it.

    The own offer where its fixed fields allow it, else another one of the same kind.
    """
    wanted = {**service["spec"], **counterfactual["changes"]}
    for offer in offers:
        if any(wanted.get(name) != value for name, value in offer["fixed"].items()):
            continue
        fields: Mapping[str, Mapping[str, Any]] = offer["form"]["properties"]
        if not set(wanted) <= set(fields) | set(offer["fixed"]):
            continue
        filled = {
            name: value
            for name, value in wanted.items()
            if name in fields and not ("default" in fields[name] and fields[name]["default"] == value)
        }
        words = ["penstock service order", shlex.quote(offer["name"]), as_settings(filled)]
        words.append(f"--project {service['project_id']}")
        words += _times(service, counterfactual.get("start_at"))
        return " ".join(word for word in words if word)
    return None


def _times(service: Mapping[str, Any], start_at: str | None) -> list[str]:
    """Return the options that say when: the start of a counterfactual that is not now, and the order's own end."""
    words = [] if start_at is None else [f"--start-at {start_at}"]
    if service.get("duration_s") is not None:
        words.append(f"--for {service['duration_s']}s")
    elif service.get("ends_at") is not None:
        words.append(f"--until {service['ends_at']}")
    return words


def _write(session: Session, told: Document, waiting: Document | None) -> None:
    decision: Document = told["decision"] or {}
    plans: list[Document] = decision.get("plans", [])
    chosen = [place for plan in plans for place in plan.get("chosen", ())]
    headline = waiting["headline"] if waiting else _where(chosen) or told["message"]
    session.show({**told, "headline": headline, "replicas": _replicas(told.get("scaling"))}, _FIELDS)
    reasons = (
        list(waiting["reasons"])
        if waiting
        else [str(reason["sentence"]) for plan in plans for reason in plan.get("reasons", ())]
    )
    _paragraph(session, "Reasons", dict.fromkeys(reasons))
    if waiting:
        places = [{**one, "place": one["node"] or one["nvlink_domain"]} for one in waiting["candidates"]]
        if places:
            session.stream.write("\n")
            session.show_items(places, _CANDIDATES)
        _paragraph(session, "Would succeed", _ways(waiting["counterfactuals"]))


def _replicas(scaling: Document | None) -> str | None:
    """Return how many replicas an elastic endpoint has and why, in words."""
    if scaling is None:
        return None
    step = scaling["last_step"]
    why = "" if step is None else f"; last from {step['from']} to {step['to']}: {step['sentence']}"
    return f"{scaling['replicas_ready']} of {scaling['replicas_wanted']} wanted are ready{why}"


def _where(chosen: Sequence[Mapping[str, Any]]) -> str:
    return first_few((f"on {place['node']}: {place['why']}" for place in chosen), "; ")


def _ways(counterfactuals: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return each way out with the command that takes it."""
    lines: list[str] = []
    for one in counterfactuals:
        lines.append(str(one["sentence"]))
        if one.get("command"):
            lines.append(f"    {one['command']}")
    return lines


def _paragraph(session: Session, title: str, lines: Any) -> None:
    if lines:
        session.stream.write(f"\n{title}\n" + "".join(f"  {line}\n" for line in lines))
