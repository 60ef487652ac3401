"""Runs a program and takes leave of everything that it leaves behind: ``python reaper.py PID_FILE PROGRAM ARGUMENTS``.

QEMU puts itself into the background, so when it ends it is the first process's to bury, which on some test machines
takes seconds; until then libvirt believes that it lives and waits. Here its orphans come to this process, which is quick.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Start the program, write its process id, and wait until neither it nor any orphan of it is left."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    process = subprocess.Popen(sys.argv[2:])
    partial = Path(sys.argv[1] + ".new")
    partial.write_text(str(process.pid))
    partial.replace(sys.argv[1])
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


if __name__ == "__main__":
    main()
