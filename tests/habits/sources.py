"""The files of the repository as the habit checks see them: tracked ones, and new ones that git does not ignore."""

import ast
import io
import subprocess
import tokenize
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One text file: ``path`` is relative to the root of the repository."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed module; SyntaxError if it is not Python."""
        return ast.parse(self.text, filename=self.path)

    @cached_property
    def comments(self) -> dict[int, str]:
        """Return the comment of each line that has one."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}

    @property
    def line_count(self) -> int:
        """Lines, blank ones included."""
        return self.text.count("\n") + (not self.text.endswith("\n") and bool(self.text))

    def functions(self) -> Iterator[Function]:
        """Every function and method, nested ones too."""
        for node in ast.walk(self.tree):
            if isinstance(node, Function):
                yield node


@cache
def repository() -> tuple[Source, ...]:
    """Return every text file of the repository."""
    listed = subprocess.run(
        [
            "git",
            "-c",
            "safe.directory=*",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout  # fmt: skip - one line a group of arguments
    found: list[Source] = []
    for name in sorted(set(listed.decode().split("\0")) - {""}):
        path = ROOT / name
        if not path.is_file():
            continue  # listed but deleted in the working tree: nothing to judge
        content = path.read_bytes()
        if b"\0" not in content[:8192]:
            found.append(Source(name, content.decode()))
    return tuple(found)


def python(*folders: str) -> list[Source]:
    """Return the Python files below the named top folders."""
    return [
        source
        for source in repository()
        if source.path.endswith(".py") and source.path.partition("/")[0] in folders
    ]


ALL_CODE = ("penstock", "tests", "bench", "tools", "recipes")


def allowed(table: str) -> dict[str, str]:
    """Return one table of allowed.toml: what is exempt, and why."""
    document = tomllib.loads((Path(__file__).parent / "allowed.toml").read_text())
    return document.get(table, {})
