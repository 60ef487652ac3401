"""The page between a wish and a change that is hard to undo: what it will affect, then the button."""

from collections.abc import Sequence

from starlette.responses import Response

from penstock.console.edge import Visit
from penstock.store.rows import Row


def ask(
    visit: Visit,
    *,
    title: str,
    effects: Sequence[str],
    action: str,
    button: str,
    back: tuple[str, str],
    dangerous: bool = False,
) -> Response:
    """Return the page; ``back`` is the path and the name of where the visitor came from.

    ``dangerous``: the password is asked for first, so that the answer to this page goes through.
    """
    if dangerous:
        visit.require_proof()
    return visit.page("confirm.html", title=title, effects=effects, action=action, button=button, back=back)


def ask_snapshot(
    visit: Visit, verb: str, title: str, effects: Sequence[str], snapshot: Row, back: tuple[str, str]
) -> Response:
    """Return the page for a snapshot of what stands at ``back``; ``title`` is what is done with it."""
    return ask(
        visit,
        title=f"{title} {snapshot['name']}?",
        effects=effects,
        action=f"{back[0]}/snapshots/{snapshot['id']}/{verb}",
        button=f"{title} {snapshot['name']}",
        back=back,
        dangerous=True,
    )
