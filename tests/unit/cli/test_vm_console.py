"""`penstock vm console --interactive` as a process against a real API: keys go there, what the machine writes comes back."""

import os
import pty
import subprocess
import sys
import termios

from penstock.actions import console_session as sessions
from penstock.actions import vm_console as console_actions
from penstock.control_plane import ControlPlane
from tests.support.command_line import CommandLine
from tests.support.machine_host import Host
from tests.support.machine_objects import make_vm
from tests.support.tenancy import Tenant
from tests.support.waiting import until


def test_a_terminal_is_the_machines_console_until_ctrl_bracket(
    control_plane: ControlPlane, served: str, acme: Tenant
) -> None:
    context, host = control_plane.context, Host(control_plane)
    vm_id = make_vm(control_plane, acme, "web-1")
    member = CommandLine(served, acme.member.key)
    refused = member("vm", "console", "web-1", "--interactive", given="")
    assert (refused.exit_code, "only one that runs takes keys" in refused.stderr) == (3, True)
    auditor = CommandLine(served, acme.auditor.key)
    assert auditor("vm", "console", "web-1", "--interactive", given="").exit_code == 3
    host.say()
    (allocation_id,) = (row["id"] for row in host.wishes())
    inner, outer = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock", "vm", "console", "web-1", "-i"],
        stdin=outer,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PENSTOCK_URL": served, "PENSTOCK_API_KEY": acme.member.key},
    )
    taken: dict[str, int] = {}
    typed = b""

    def ask() -> bytes:
        nonlocal typed
        for one in sessions.typed(context, host.agent_id, taken, 0.0):
            taken[one.session_id] = one.begin + len(one.content)
            typed += one.content
        return typed

    try:
        until(lambda: ask() is not None and taken, "the session is open")
        until(lambda: not termios.tcgetattr(outer)[3] & termios.ISIG, "the terminal hands on every key")
        os.write(inner, b"\x03")  # no signal: it goes to the machine
        until(lambda: ask() == b"\x03", lambda: f"Ctrl-C is a key like others: {typed}")
        console_actions.take(context, host.agent_id, allocation_id, 0, b"web-1 login: ")
        assert process.stdout is not None
        assert process.stdout.read(13) == b"web-1 login: "
        os.write(inner, b"ada\r")
        until(lambda: ask() == b"\x03ada\r", lambda: f"a line: {typed}")
        os.write(inner, b"\x1dlost")
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
        os.close(inner)
        os.close(outer)
    assert (process.returncode, b"connected to web-1; Ctrl-] leaves" in said) == (0, True), said
    assert vm_id.startswith("svc_")
