"""`penstock service`: order (and dry-run), list, show with the phases, scale, release."""

import secrets
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from penstock.base.clock import SystemClock
from penstock.base.units import format_duration, format_eur
from penstock.cli.errors import REFUSED, USAGE, CliError
from penstock.cli.instants import HELP, parse_instant, span_seconds
from penstock.cli.output import Column, Format, Kind, first_few
from penstock.cli.session import Document, ListLimit, Project, Session, Yes, command
from penstock.cli.spec import filled_in
from penstock.cli.wait import wait_for

app = typer.Typer(no_args_is_help=True)

LIVE = ("queued", "starting", "running", "degraded", "asleep", "releasing")
DEFAULT_TIMEOUT_SECONDS = 300.0
_LIST = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("KIND", "kind"),
    Column("STATE", "state"),
    Column("SIMULATED", "simulated", Kind.FLAG),
    Column("WHY", "message"),
)
_FIELDS = (
    Column("ID", "id"),
    Column("Name", "name"),
    Column("Kind", "kind"),
    Column("State", "state"),
    Column("", "state_sentence"),
    Column("Why", "message"),
    Column("Wanted", "wanted"),
    Column("Simulated", "simulated", Kind.FLAG),
    Column("Ordered as", "spec_text"),
    Column("On", "places"),
    Column("Knowledge base", "knowledge_base_id"),
    Column("Ends", "ends_at", Kind.TIME),
    Column("Released at", "release_at", Kind.TIME),
    Column("In reservation", "reservation_id"),
    Column("Project", "project_id"),
    Column("Offer", "offer_id"),
    Column("Price book", "price_book_id"),
    Column("Order to first token", "first_token"),
)
_PHASES = (
    Column("PHASE", "phase"),
    Column("AT", "at", Kind.TIME),
    Column("STEP", "step"),
    Column("SINCE THE ORDER", "since"),
)
_PLAN = (
    Column("Would start now", "would_start_now", Kind.FLAG),
    Column("Because", "reason"),
    Column("Would stop", "would_stop"),
    Column("Earliest start", "earliest_start", Kind.TIME),
    Column("Price per hour", "price.microeur_per_hour", Kind.MICROEUR),
    Column("Price book version", "price.price_book_version"),
    Column("Tokens", "tokens"),
    Column("And", "counted", Kind.LIST),
    Column("Where", "where"),
    Column("Instead", "instead", Kind.LIST),
)
_SCALING = (
    Column("State", "state"),
    Column("Replicas wanted", "replicas_wanted"),
    Column("Ready", "replicas_ready"),
    Column("Starting", "replicas_starting"),
    Column("Draining", "replicas_draining"),
    Column("Follows the load", "follows"),
    Column("Last step", "step"),
    Column("At", "last_step.at", Kind.TIME),
    Column("Requests waiting", "waiting"),
    Column("Requests in flight", "in_flight"),
    Column("Tokens in flight", "tokens_in_flight"),
)
_TIMES = (("the first token", "ttft_ms"), ("each further one", "token_ms"))
_BURN = (
    Column("LAST", "window"),
    Column("REQUESTS", "requests"),
    Column("LATE", "late"),
    Column("SLOW", "slow"),
    Column("FAILED", "failed"),
    Column("BURN", "burn"),
    Column("AVAILABILITY BURN", "availability_burn"),
)
Service = Annotated[str, typer.Argument(help="Its id or name.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Wait and show each phase.")]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.0, help="Seconds to wait at most; it goes on without you.")
]


def find(session: Session, text: str) -> str:
    """Return the id of the service that ``text`` names: an id as it is, else the live one, else the latest."""
    if len(text) == 30 and text.startswith("svc_"):
        return text
    live, _ = session.client.items("/v1/services", {"name": text, "state": list(LIVE)}, limit=2)
    if len(live) > 1:
        raise CliError(f"more than one live service is called '{text}'; give the id", USAGE)
    found = live or session.client.items("/v1/services", {"name": text})[0]
    if not found:
        raise CliError(f"no service is called '{text}'; see `penstock service list`", USAGE)
    return str(found[-1]["id"])


def offer_named(session: Session, text: str) -> Document:
    """Return the offer of that name or id, with its form."""
    return session.client.get(f"/v1/offers/{session.find('offers', text)}")


@command(
    app,
    "order",
    examples=[
        "penstock service order gb200 --set count=4 --set same_nvlink_domain=yes --wait",
        "penstock service order gb200-slice --name notebook",
        "penstock service order llm-demo --name chat --wait",
        "penstock service order gb200 --set count=8 --start-at 14:20 --for 2h",
        'penstock service order gpu --spec \'{"count": 2, "memory_gib_min": 80}\' --dry-run',
    ],
)
def order(
    session: Session,
    offer: Annotated[str, typer.Argument(help="Name or id of an offer; see `penstock offer list`.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Fill in a field of the offer's form."),
    ] = None,
    spec: Annotated[
        str | None, typer.Option("--spec", help="The filled-in form as JSON, @file, or - for stdin.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="A name, unique among live services.")] = None,
    project: Project = None,
    start_at: Annotated[
        str | None, typer.Option("--start-at", metavar="WHEN", help=f"Book its place for then: {HELP}.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="WHEN", help="It is released then.")] = None,
    length: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="It is released after so long: 90m, 2h, 1d.")
    ] = None,
    reservation: Annotated[
        str | None, typer.Option("--reservation", help="Run inside this reservation (id or name).")
    ] = None,
    dry_run: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--dry-run", help="Show plan, price and earliest start; change nothing.")
    ] = False,
    wait: Wait = False,  # noqa: FBT002 - the form of a Typer flag
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
) -> None:
    """Order an offer for a project."""
    found = offer_named(session, offer)
    body = {
        "offer": found["id"],
        "project": session.project(project),
        "name": name,
        "spec": filled_in(found["form"], settings or (), spec),
        **when(session, start_at, until, length, reservation),
    }
    if dry_run:
        show_plan(session, session.client.post("/v1/services", body, params={"dry_run": "true"}))
        return
    headers = {"Idempotency-Key": secrets.token_hex(16)}
    service = session.client.post("/v1/services", body, headers=headers)
    if wait:
        service = _watch(session, service, timeout, until=("running", "failed", "released"))
    show_service(session, service)
    if wait and service["state"] != "running":
        raise CliError(f"the service is {service['state']}: {service['message']}", REFUSED)
    if not wait and session.output is Format.TABLE:
        session.say(f"accepted; follow it with `penstock service show {service['name']}`")


def when(
    session: Session, start_at: str | None, until: str | None, length: str | None, reservation: str | None
) -> Document:
    """Return the fields of an order that say when it is to run, those that were given."""
    now = SystemClock().now().astimezone()
    said: Document = {
        "start_at": None if start_at is None else parse_instant(start_at, now),
        "until": None if until is None else parse_instant(until, now),
        "duration_s": None if length is None else span_seconds(length),
        "reservation": None
        if reservation is None
        else session.find("reservations", reservation, {"state": ["booked", "opening", "active"]}),
    }
    return {key: value for key, value in said.items() if value is not None}


def _watch(session: Session, service: Document, timeout: float, *, until: tuple[str, ...]) -> Document:
    return wait_for(
        lambda: session.client.get(f"/v1/services/{service['id']}"),
        done=lambda document: document["state"] in until,
        phase=phases_so_far,
        timeout_seconds=timeout,
        what=str(service["name"]),
    )


def phases_so_far(service: Mapping[str, Any]) -> str:
    """Return the phases reached, and why it waits if it does."""
    reached = " > ".join(str(phase["phase"]) for phase in service["phases"])
    if service["state"] == "releasing":
        return f"releasing: {service['message'] or service['state_sentence']}"
    return f"{reached}: {service['message']}" if service["message"] else reached


@command(app, "list", examples=["penstock service list", "penstock service list --state queued -o json"])
def list_(
    session: Session,
    project: Project = None,
    state: Annotated[
        list[str] | None, typer.Option("--state", help="Only in this state; may be given several times.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only of this kind.")] = None,
    every: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--all", "-a", help="Released and failed ones too.")
    ] = False,
    limit: ListLimit = None,
) -> None:
    """List services that are not over."""
    params: Document = {"kind": kind, "state": state or (None if every else list(LIVE))}
    if project is not None:
        params["project"] = session.find("projects", project)
    empty = "no services; order one with `penstock service order`, see `penstock offer list`"
    session.show_list("/v1/services", _LIST, params=params, limit=limit, empty=empty)


@command(app, "show", examples=["penstock service show chat", "penstock service show chat -o json"])
def show(session: Session, service: Service) -> None:
    """Show one service with its phases, from the order to the first token."""
    show_service(session, session.client.get(f"/v1/services/{find(session, service)}"))


@command(app, "release", examples=["penstock service release chat --yes --wait"])
def release(
    session: Session,
    service: Service,
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
    wait: Wait = False,  # noqa: FBT002 - the form of a Typer flag
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    grace: Annotated[
        str | None,
        typer.Option(
            "--grace", help="Run on, paid for, so long (30s, 10m); `keep` takes it back until then."
        ),
    ] = None,
) -> None:
    """Release a service: it ends, what it holds is given back and its meter stops."""
    found = session.client.get(f"/v1/services/{find(session, service)}")
    session.confirm(affects(found, grace), yes=yes)
    params: Document = {} if grace is None else {"grace_s": span_seconds(grace)}
    answer = session.client.delete(f"/v1/services/{found['id']}", params=params)
    if wait:
        answer = _watch(session, answer, timeout, until=("released", "failed"))
    show_service(session, answer)


@command(app, "keep", examples=["penstock service keep chat"])
def keep(session: Session, service: Service) -> None:
    """Take back a release whose grace is not over."""
    show_service(session, session.client.post(f"/v1/services/{find(session, service)}/keep", {}))


@command(
    app,
    "scale",
    examples=[
        "penstock service scale chat",
        "penstock service scale chat --min 0 --max 4 --idle-seconds 120",
        "penstock service scale chat --ttft-ms 500",
    ],
)
def scale(
    session: Session,
    service: Service,
    least: Annotated[
        int | None, typer.Option("--min", help="Replicas at least; 0: none while nobody asks.")
    ] = None,
    most: Annotated[int | None, typer.Option("--max", help="Replicas at most.")] = None,
    queue: Annotated[int | None, typer.Option("--queue", help="Waiting requests for each replica.")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", help="Tokens in flight for each replica.")] = None,
    ttft_ms: Annotated[int | None, typer.Option("--ttft-ms", help="Time to first token to keep.")] = None,
    idle_seconds: Annotated[
        int | None, typer.Option("--idle-seconds", help="Until --min 0 takes effect.")
    ] = None,
    up_seconds: Annotated[int | None, typer.Option("--up-seconds", help="Pause between steps up.")] = None,
    down_seconds: Annotated[
        int | None, typer.Option("--down-seconds", help="Pause before a step down.")
    ] = None,
) -> None:
    """Show how an endpoint's replicas follow the load, or change it; --min or --max makes them follow."""
    asked = {
        "replicas_min": least,
        "replicas_max": most,
        "queue_target": queue,
        "tokens_target": tokens,
        "ttft_target_ms": ttft_ms,
        "idle_seconds": idle_seconds,
        "scale_up_seconds": up_seconds,
        "scale_down_seconds": down_seconds,
    }
    body = {name: value for name, value in asked.items() if value is not None}
    path = f"/v1/services/{find(session, service)}/scaling"
    found = session.client.put(path, body) if body else session.client.get(path)
    policy, step = found["policy"], found["last_step"]
    told = (
        "no: a fixed number"
        if policy is None
        else ", ".join(f"{k}={v}" for k, v in policy.items() if v is not None)
    )
    why = None if step is None else f"{step['from']} to {step['to']}: {step['sentence']}"
    session.show(
        {**found, "follows": told, "step": why} if session.output is Format.TABLE else found, _SCALING
    )


@command(
    app,
    "objective",
    examples=[
        "penstock service objective chat",
        "penstock service objective chat --ttft-ms 500 --token-ms 50 --percent 99 --availability 99.9",
    ],
)
def objective(
    session: Session,
    service: Service,
    ttft_ms: Annotated[int | None, typer.Option(help="Until the first token of a stream.")] = None,
    token_ms: Annotated[int | None, typer.Option(help="Mean time between two tokens.")] = None,
    percent: Annotated[float, typer.Option(help="Of the requests that keep these times.")] = 99.0,
    availability: Annotated[
        float | None, typer.Option(help="Percent of the requests that do not fail.")
    ] = None,
    nothing: Annotated[bool, typer.Option("--none", help="Promise nothing any more.")] = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Show what an endpoint promises and how fast it uses up what it may miss, or change the promise."""
    path = f"/v1/services/{find(session, service)}/objective"
    if nothing:
        session.client.delete(path)
    elif (ttft_ms, token_ms, availability) != (None, None, None):
        body = {
            "ttft_ms": ttft_ms,
            "token_ms": token_ms,
            "percent": percent,
            "availability_percent": availability,
        }
        session.client.put(path, body)
    found = session.client.get(path)
    if session.output is not Format.TABLE:
        session.show(found, ())
        return
    session.show({"promises": _promise(found["objective"])}, (Column("Promises", "promises"),))
    windows = [
        {**one, **{name: _burn(one[f"{name}_milli"]) for name in ("burn", "availability_burn")}}
        for one in found["windows"]
    ]
    session.show_items(windows, _BURN)


def _promise(promise: Document | None) -> str:
    if promise is None:
        return "nothing"
    times = [f"{what} within {promise[name]} ms" for what, name in _TIMES if promise[name] is not None]
    said = [f"{' and '.join(times)} for {promise['percent']:g} %"] if times else []
    if promise["availability_percent"] is not None:
        said.append(f"{promise['availability_percent']:g} % do not fail")
    return "; ".join(said)


def _burn(milli: int | None) -> str | None:
    return None if milli is None else f"{milli / 1000:.2f}"


def affects(service: Mapping[str, Any], grace: str | None = None) -> str:
    """Return the question before a release, with what will be gone."""
    parts = service.get("allocations") or ()
    nodes = sorted({str(part["node_name"]) for part in parts})
    where = f" on {', '.join(nodes[:4])}{' and more' if len(nodes) > 4 else ''}" if nodes else ""
    what = {
        "llm": "its endpoint stops answering; requests in progress are cut off",
        "llm_external": "its endpoint stops answering here; the servers elsewhere go on",
        "rag": "its endpoint stops answering, and its documents are deleted, with a signed proof",
        "gpu": "what runs on its devices ends and the devices are wiped",
    }.get(str(service["kind"]), "what runs in it ends")
    asked = f"Release '{service['name']}' ({service['state']}{where})?"
    if grace is not None:
        return f"{asked} After {grace} {what}; until then `penstock service keep` takes it back."
    return f"{asked} Then {what}; this cannot be undone."


def show_service(session: Session, service: Document) -> None:
    """Show a service; for people with the steps between its phases."""
    if session.output is not Format.TABLE:
        session.show(service, _FIELDS)
        return
    parts: list[Document] = service.get("allocations") or []
    first_token = service.get("order_to_first_token_seconds")
    shown = {
        **service,
        # What was left open is zero, empty or null in the form.
        "spec_text": ", ".join(f"{key}={value}" for key, value in service["spec"].items() if value),
        "places": first_few(sorted(f"{part['node_name']} ({part['phase']})" for part in parts)),
        "first_token": None if first_token is None else format_duration(first_token),
    }
    session.show(shown, _FIELDS)
    session.show_items(steps(service["phases"]), _PHASES)


def steps(phases: list[Document]) -> list[Document]:
    """Return the phases with the time each took and the time since the order, as a person reads them."""
    before = 0.0
    found: list[Document] = []
    for phase in phases:
        since = float(phase["seconds_since_order"])
        found.append({**phase, "step": format_duration(since - before), "since": format_duration(since)})
        before = since
    return found


def _counted(price: Mapping[str, Any]) -> str:
    """Return the price of what is counted in words."""
    per = {"chunk_days": "1,000 chunks kept for a day"}.get(
        price["meter"], f"{price['quantity_per_price']:,} {price['meter'].replace('_', ' ')}"
    )
    return f"{format_eur(price['microeur'], 3)} for {per}"


def show_plan(session: Session, plan: Document) -> None:
    """Show what an order would do."""
    if session.output is not Format.TABLE:
        session.show(plan, _PLAN)
        return
    tokens = [
        f"{token['model']}: {format_eur(token['input_microeur_per_1000000_tokens'])} in, "
        f"{format_eur(token['output_microeur_per_1000000_tokens'])} out per million tokens"
        for token in plan["price"]["tokens"]
    ]
    chosen = [place for one in plan["placement"] for place in one["chosen"]]
    where = [
        f"{place['devices']} on {place['node']}" if place["devices"] else place["node"] for place in chosen
    ]
    session.show(
        {
            **plan,
            "tokens": "; ".join(tokens),
            "counted": [_counted(one) for one in plan["price"]["counted"]],
            "where": ", ".join(where),
            "instead": [one["sentence"] for one in plan["alternatives"]],
        },
        _PLAN,
    )
