"""httpx without its own command line.

httpx imports click, rich and pygments for a ``httpx`` command when they are installed: a third of a second
that no command of ours should wait for. It handles their absence, so its module is marked absent meanwhile.
"""

import sys
from types import ModuleType
from typing import cast

if "httpx" in sys.modules:
    import httpx
else:
    sys.modules["httpx._main"] = cast("ModuleType", None)
    try:
        import httpx
    finally:
        del sys.modules["httpx._main"]

__all__ = ["httpx"]
