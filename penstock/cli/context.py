"""Contexts: which factory the commands talk to, and with which key.

They live in ``config.toml`` of the person's configuration folder, readable by that person alone::

    current = "lab"
    [contexts.lab]
    url = "https://factory.example:7070"
    api_key = "psk_..."
    gateway_url = "https://factory.example:7071"

``PENSTOCK_CONTEXT`` chooses one; ``PENSTOCK_URL``, ``PENSTOCK_API_KEY`` and ``PENSTOCK_GATEWAY_URL`` override
its parts, so that a script needs no file.
"""

import json
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import platformdirs

from penstock.cli.errors import USAGE, CliError

DEFAULT_NAME = "local"
DEFAULT_URL = "http://127.0.0.1:7070"
DEFAULT_GATEWAY_URL = "http://127.0.0.1:7071"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")


@dataclass(frozen=True, slots=True)
class Target:
    """One factory: where its API and its token gateway are, and the key to use."""

    name: str
    url: str = DEFAULT_URL
    api_key: str | None = field(default=None, repr=False)
    gateway_url: str = DEFAULT_GATEWAY_URL


@dataclass(frozen=True, slots=True)
class Contexts:
    """The content of the file."""

    current: str | None = None
    targets: Mapping[str, Target] = field(default_factory=dict[str, Target])


def config_path() -> Path:
    """Return where the contexts are kept."""
    return Path(platformdirs.user_config_dir("penstock")) / "config.toml"


def load(path: Path | None = None) -> Contexts:
    """Read the contexts; none if the file is absent. Raises CliError if it cannot be read."""
    path = path or config_path()
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return Contexts()
    except (OSError, ValueError) as error:
        raise CliError(f"cannot read {path}: {error}; correct or remove the file", USAGE) from error
    current = document.get("current")
    raw = document.get("contexts", {})
    if not isinstance(raw, dict):
        raise CliError(f"cannot read {path}: 'contexts' is not a table; correct or remove the file", USAGE)
    targets: dict[str, Target] = {}
    for name, entry in cast("dict[str, Any]", raw).items():
        parts = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        known = {
            key: parts[key] for key in ("url", "api_key", "gateway_url") if isinstance(parts.get(key), str)
        }
        targets[name] = Target(name, **known)
    return Contexts(current if isinstance(current, str) else None, targets)


def save(contexts: Contexts, path: Path | None = None) -> Path:
    """Write the file at once and whole, readable by its owner alone; return where it is."""
    path = path or config_path()
    lines: list[str] = []
    if contexts.current is not None:
        lines.append(f"current = {_quoted(contexts.current)}")
    for name, target in sorted(contexts.targets.items()):
        lines += ["", f"[contexts.{_quoted(name)}]", f"url = {_quoted(target.url)}"]
        if target.api_key is not None:
            lines.append(f"api_key = {_quoted(target.api_key)}")
        lines.append(f"gateway_url = {_quoted(target.gateway_url)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp makes the file with mode 0600; replacing it is atomic, so a crash leaves the old one.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".config-")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write("\n".join(lines) + "\n")
        Path(temporary).replace(path)
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror}", USAGE) from error
    return path


def remember(target: Target, *, make_current: bool = True, path: Path | None = None) -> Path:
    """Add or replace one context and, by default, make it the current one; return where the file is."""
    check_name(target.name)
    contexts = load(path)
    current = target.name if make_current or contexts.current is None else contexts.current
    return save(Contexts(current, {**contexts.targets, target.name: target}), path)


def resolve(chosen: str | None = None, path: Path | None = None) -> Target:
    """Return the factory to talk to: option, then environment, then file, then the local default.

    Raises CliError if a context is named that does not exist.
    """
    contexts = load(path)
    name = chosen or os.environ.get("PENSTOCK_CONTEXT") or contexts.current or DEFAULT_NAME
    target = contexts.targets.get(name)
    if target is None:
        if name != DEFAULT_NAME:
            known = ", ".join(sorted(contexts.targets)) or "none yet"
            raise CliError(
                f"no context '{name}' (known: {known}); add it with `penstock context add {name} --url ...`",
                USAGE,
            )
        target = Target(DEFAULT_NAME)
    return replace(
        target,
        url=os.environ.get("PENSTOCK_URL") or target.url,
        api_key=os.environ.get("PENSTOCK_API_KEY") or target.api_key,
        gateway_url=os.environ.get("PENSTOCK_GATEWAY_URL") or target.gateway_url,
    )


def check_name(name: str) -> None:
    """Raise CliError unless ``name`` can name a context."""
    if _NAME.match(name) is None:
        raise CliError(
            f"'{name}' cannot name a context: use up to 63 letters, digits, '.', '_' and '-'", USAGE
        )


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
