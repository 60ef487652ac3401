"""Security groups at the console: what is let through, and what a group holds for. Every change says within how long."""

from starlette.responses import Response

from penstock.actions import security_group as group_actions
from penstock.actions import vm as vm_actions
from penstock.base import limits
from penstock.base.errors import InvalidInputError, NotFoundError
from penstock.console import confirm, network_part
from penstock.console.edge import Visit, get, post
from penstock.console.menu import may_see
from penstock.console.names import checked_name
from penstock.console.sheet import REFUSED, Box, Sheet, fill, name_box, number_in, one_of, text_of
from penstock.domain.security_group import DIRECTIONS, PORT_MAX, Protocol, Scope
from penstock.store.rows import Row
from penstock.store.schema import port, security_group, subnet

_WAYS = (("in", "in, from others to who has the group"), ("out", "out, from who has the group to others"))


def _new(network: Row) -> Sheet:
    return Sheet(
        f"Add a security group to {network['name']}",
        "It lets nothing in until a rule says so.",
        f"/networks/{network['id']}/security-groups",
        "Add it",
        network_part.way(network),
        [
            name_box(),
            Box("description", "Description", required=False),
            Box("allow_egress", "Everything may go out", "check", value="on"),
        ],
    )


def ask_new(visit: Visit) -> Response:
    """Ask what group to make."""
    return fill(visit, _new(network_part.network_for(visit, "security_group:create")))


def make(visit: Visit) -> Response:
    """Make a group."""
    network = network_part.network_for(visit, "security_group:create")
    try:
        row = group_actions.create(
            visit.context,
            visit.actor,
            network_id=network["id"],
            name=checked_name(visit.field("name")),
            description=text_of(visit, "description"),
            allow_egress=visit.field("allow_egress") == "on",
        )
    except REFUSED as error:
        return fill(visit, _new(network), error)
    return visit.go(f"/security-groups/{row['id']}", f"'{row['name']}' is made; say what it lets through.")


def show(visit: Visit) -> Response:
    """Show a group with its rules and what it holds for."""
    row, network = network_part.found(visit, security_group)
    others = {one["id"]: one["name"] for one in network_part.parts_of(visit, security_group, network["id"])}
    group = group_actions.show(visit.context, visit.actor, row["id"])
    return visit.page(
        "security_group.html",
        group=group,
        network=network,
        group_names=others,
        held=[(one, _target(one, _names(visit, network))) for one in group["bindings"]],
        may_update=visit.actor.may("security_group:update", row["tenant_id"], row["project_id"]),
        may_delete=visit.actor.may("security_group:delete", row["tenant_id"], row["project_id"]),
    )


def _names(visit: Visit, network: Row) -> dict[str, str]:
    """Return the names of what a group of ``network`` may be bound to, by id."""
    names = {network["id"]: "the whole network"}
    for table in (subnet, port):
        names |= {one["id"]: one["name"] for one in network_part.parts_of(visit, table, network["id"])}
    if may_see(visit.actor, "vm:read"):
        listed = vm_actions.list_page(
            visit.context, visit.actor, vm_actions.Filters(), after=None, limit=limits.PAGE_MAX
        )
        names |= {
            one["service_id"]: one["name"] for one in listed if one["project_id"] == network["project_id"]
        }
    return names


def _target(binding: Row, names: dict[str, str]) -> str:
    name = names.get(str(binding["target_id"]), str(binding["target_id"]))
    return name if binding["scope"] == Scope.NETWORK else f"{binding['scope']} {name}"


def _below(row: Row, network: Row) -> list[tuple[str, str]]:
    return [*network_part.way(network), (f"/security-groups/{row['id']}", row["name"])]


def _rule_sheet(visit: Visit, row: Row, network: Row) -> Sheet:
    groups = network_part.parts_of(visit, security_group, network["id"])
    return Sheet(
        f"Let something through {row['name']}",
        "It holds on all hosts within seconds.",
        f"/security-groups/{row['id']}/rules",
        "Let it through",
        _below(row, network),
        [
            Box("direction", "Direction", "choose", options=_WAYS),
            Box("protocol", "Protocol", "choose", options=[(one, one) for one in Protocol], value="tcp"),
            Box(
                "ports",
                "Ports",
                required=False,
                hint="Of tcp and udp: one as in 22, or a range as in 8000-8080. Empty: all.",
                characters_max=11,
            ),
            Box(
                "prefix",
                "The other side's prefix",
                required=False,
                hint="As in 203.0.113.0/24. Empty: anybody, or the group below.",
                characters_max=18,
            ),
            Box(
                "remote_group_id",
                "Or whoever has the group",
                "choose",
                options=[("", "no group"), *((one["id"], one["name"]) for one in groups)],
            ),
            Box("description", "Description", required=False),
        ],
    )


def ask_rule(visit: Visit) -> Response:
    """Ask what to let through."""
    return fill(
        visit, _rule_sheet(visit, *network_part.found(visit, security_group, "security_group:update"))
    )


def add_rule(visit: Visit) -> Response:
    """Let something through."""
    row, network = network_part.found(visit, security_group, "security_group:update")
    try:
        low, high = _ports(visit.field("ports"))
        group_actions.add_rule(
            visit.context,
            visit.actor,
            row["id"],
            direction=one_of(visit, "direction", DIRECTIONS),
            protocol=one_of(visit, "protocol", Protocol),
            port_min=low,
            port_max=high,
            prefix=text_of(visit, "prefix", 18) or None,
            remote_group_id=visit.field("remote_group_id") or None,
            description=text_of(visit, "description"),
        )
    except REFUSED as error:
        if error.field in ("port_min", "port_max"):
            error.field = "ports"
        return fill(visit, _rule_sheet(visit, row, network), error)
    return visit.go(f"/security-groups/{row['id']}", "It is let through within seconds.")


def _ports(text: str) -> tuple[int | None, int | None]:
    if not text:
        return None, None
    first, _, last = text.replace(" ", "").partition("-")
    return number_in(first, "ports", 1, PORT_MAX), number_in(last or first, "ports", 1, PORT_MAX)


def ask_remove_rule(visit: Visit) -> Response:
    """Say what taking a rule away does."""
    row, _ = network_part.found(visit, security_group, "security_group:update")
    rule_id = _rule_id(visit, row)
    return confirm.ask(
        visit,
        title=f"Take this rule of {row['name']} away?",
        effects=[
            "What only it lets through is stopped within seconds; connections that stand by it are cut."
        ],
        action=f"/security-groups/{row['id']}/rules/{rule_id}/remove",
        button="Take it away",
        back=(f"/security-groups/{row['id']}", row["name"]),
    )


def _rule_id(visit: Visit, row: Row) -> str:
    wanted = visit.path("rule_id")
    rules = group_actions.show(visit.context, visit.actor, row["id"])["rules"]
    if not any(rule["id"] == wanted for rule in rules):
        raise NotFoundError(f"this group has no rule '{wanted}'")
    return wanted


def remove_rule(visit: Visit) -> Response:
    """Let something through no longer."""
    row, _ = network_part.found(visit, security_group)
    group_actions.remove_rule(visit.context, visit.actor, row["id"], visit.path("rule_id"))
    return visit.go(f"/security-groups/{row['id']}", "It is stopped within seconds.")


def _binding_sheet(visit: Visit, row: Row, network: Row) -> Sheet:
    group = group_actions.show(visit.context, visit.actor, row["id"])
    taken = {one["target_id"] for one in group["bindings"]}
    options = [
        (f"{_SCOPES[identifier[:3]]} {identifier}", f"{_WORDS[identifier[:3]]}{name}")
        for identifier, name in _names(visit, network).items()
        if identifier not in taken
    ]
    return Sheet(
        f"Let {row['name']} hold for more",
        "What it holds for obeys the rules of all of its groups together.",
        f"/security-groups/{row['id']}/bindings",
        "Let it hold",
        _below(row, network),
        [Box("target_id", "For", "choose", options=options)],
        [
            "Something that had no group yet was reached by nobody and reached everybody; from now on its groups decide."
        ],
    )


_SCOPES = {"net": Scope.NETWORK, "sub": Scope.SUBNET, "prt": Scope.PORT, "svc": Scope.SERVICE}
_WORDS = {"net": "", "sub": "the subnet ", "prt": "the port ", "svc": "the machine "}


def ask_bind(visit: Visit) -> Response:
    """Ask what a group is to hold for."""
    return fill(
        visit, _binding_sheet(visit, *network_part.found(visit, security_group, "security_group:update"))
    )


def bind(visit: Visit) -> Response:
    """Make a group hold for something."""
    row, network = network_part.found(visit, security_group, "security_group:update")
    try:
        scope, _, target_id = visit.field("target_id").partition(" ")
        if scope not in list(_SCOPES.values()):
            raise InvalidInputError("choose what it is to hold for", field="target_id")
        group_actions.bind(visit.context, visit.actor, row["id"], Scope(scope), target_id)
    except REFUSED as error:
        return fill(visit, _binding_sheet(visit, row, network), error)
    return visit.go(f"/security-groups/{row['id']}", "It holds within seconds.")


def unbind(visit: Visit) -> Response:
    """Make a group hold for something no longer."""
    row, _ = network_part.found(visit, security_group)
    group_actions.unbind(visit.context, visit.actor, row["id"], visit.field("target_id"))
    return visit.go(f"/security-groups/{row['id']}", "It holds for that no longer.")


def ask_delete(visit: Visit) -> Response:
    """Say what deleting does."""
    effects = [
        "Its rules go with it. It is refused while it holds for something or another group's rule names it."
    ]
    return network_part.ask_delete(visit, security_group, "/security-groups", effects)


def delete(visit: Visit) -> Response:
    """Delete a group."""
    return network_part.delete(visit, security_group, group_actions.delete)


_ONE = "/security-groups/{security_group_id}"
routes = [
    get("/networks/{network_id}/security-groups/new", ask_new),
    post("/networks/{network_id}/security-groups", make),
    get(_ONE, show),
    get(f"{_ONE}/rules/new", ask_rule),
    post(f"{_ONE}/rules", add_rule),
    get(f"{_ONE}/rules/{{rule_id}}/remove", ask_remove_rule),
    post(f"{_ONE}/rules/{{rule_id}}/remove", remove_rule),
    get(f"{_ONE}/bindings/new", ask_bind),
    post(f"{_ONE}/bindings", bind),
    post(f"{_ONE}/bindings/remove", unbind),
    get(f"{_ONE}/delete", ask_delete),
    post(f"{_ONE}/delete", delete),
]
