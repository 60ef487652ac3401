"""Running commands of the client inside the test."""

import json
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner, Result

from penstock.cli.main import app


@dataclass(frozen=True)
class CommandLine:
    """Runs commands against one factory with one key."""

    url: str
    api_key: str | None = None

    def __call__(self, *arguments: str, given: str | None = None) -> Result:
        """Run ``penstock <arguments>`` with ``given`` on standard input; an unexpected exception is raised."""
        environment = {"PENSTOCK_URL": self.url, "PENSTOCK_API_KEY": self.api_key, "TZ": "UTC"}
        result = CliRunner().invoke(app, list(arguments), input=given, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def json(self, *arguments: str) -> Any:
        """Run a command with ``--output json`` and return the document; the command must succeed."""
        result = self(*arguments, "--output", "json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)
