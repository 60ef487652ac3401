"""Rules about texts and about how files belong together; each returns a sentence for each violation."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath

from tests.habits.sources import Source

MIRRORED_FROM_LINES = 40

_NO_MACHINE = "no paths of one machine: write them relative to the repository, or make them a setting"
_NO_REGISTRY = "no registry by name: whoever installs decides"
_PRODUCT_ALONE = "the project speaks of the product alone"
# Each pattern has one letter in brackets, so that this file does not contain what it forbids.
_FORBIDDEN: tuple[tuple[str, str], ...] = (
    (r"/(wor[k]|roo[t])/", _NO_MACHINE),
    (r"/hom[e]/[a-z]+/", _NO_MACHINE),
    (r"(pypi|pythonhosted)\.or[g]|registry\.npmj[s]|conda\.anacond[a]", _NO_REGISTRY),
    (r"index-ur[l][=\s]+\S*:/", _NO_REGISTRY),
    (r"\b(claud[e]|anthropi[c]|chatgp[t]|copilo[t])\b", _PRODUCT_ALONE),
    (r"\b(llm[- ]writte[n]|ai[- ]generate[d]|sandbox sessio[n]|language model wrot[e])\b", _PRODUCT_ALONE),
    (r"\b(coding|helper|sub)[- ]?agent[s]?\b", _PRODUCT_ALONE),
)

_LINK = re.compile(
    r"(?<!\!)\[[^\]]*\]\((?P<target>[^)\s]+)(?:\s+\"[^\"]*\")?\)|!\[[^\]]*\]\((?P<image>[^)\s]+)\)"
)
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6}\s+(?P<title>.+?)\s*#*$", re.MULTILINE)


def forbidden_words(source: Source) -> list[str]:
    """Names of one machine, of registries, and of who wrote the code have no place in the repository."""
    found: list[str] = []
    for number, line in enumerate(source.text.splitlines(), start=1):
        for pattern, advice in _FORBIDDEN:
            hit = re.search(pattern, line, re.IGNORECASE)
            if hit:
                found.append(f"{source.path}:{number}: '{hit[0]}': {advice}")
    return found


def registry_addresses(source: Source) -> list[str]:
    """A lock file names packages, versions and hashes, never where they come from (ADR 0001)."""
    return [
        f"{source.path}:{number}: no address and no index in a lock; write it with 'make lock'"
        for number, line in enumerate(source.text.splitlines(), start=1)
        if "://" in line or (line.lstrip().startswith("--") and not line.lstrip().startswith("--hash="))
    ]


def anchor(title: str) -> str:
    """Return the fragment that a Markdown viewer gives a heading."""
    plain = re.sub(r"[`*_]|\[([^\]]*)\]\([^)]*\)", lambda hit: hit[1] or "", title)
    kept = [c for c in plain.lower() if c in " -_" or unicodedata.category(c)[0] in "LN"]
    return "".join(kept).replace(" ", "-")


def broken_links(source: Source, paths: Collection[str], anchors: Mapping[str, Collection[str]]) -> list[str]:
    """Relative links of a Markdown file point to files and headings that exist.

    ``paths`` are the files and folders of the repository, ``anchors`` the fragments of each Markdown file.
    """
    found: list[str] = []
    text = _FENCE.sub(lambda hit: "\n" * hit[0].count("\n"), source.text)
    for hit in _LINK.finditer(text):
        target = hit["target"] or hit["image"]
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue  # another site's business
        where = f"{source.path}:{text.count(chr(10), 0, hit.start()) + 1}"
        name, _, fragment = target.partition("#")
        path = _normal(PurePosixPath(source.path).parent / name) if name else source.path
        if path not in paths:
            found.append(f"{where}: the link to {target} leads nowhere")
        elif fragment and fragment not in anchors.get(path, ()):
            found.append(f"{where}: {path} has no heading for #{fragment}")
    return found


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def anchors_of(source: Source) -> set[str]:
    """Return the fragments of a Markdown file."""
    text = _FENCE.sub("", source.text)
    return {anchor(hit["title"]) for hit in _HEADING.finditer(text)}


def mirror(path: str) -> str:
    """Return where the test of a module of the package belongs."""
    parts = PurePosixPath(path).relative_to("penstock")
    if parts.name == "__init__.py":
        parts = (
            PurePosixPath(f"{PurePosixPath(path).parent}.py").relative_to("penstock")
            if parts.parent.name
            else parts
        )
    return str(PurePosixPath("tests/unit") / parts.parent / f"test_{parts.name}")


def unmirrored(modules: Iterable[Source], paths: Collection[str], elsewhere: Mapping[str, str]) -> list[str]:
    """Each module of some size has its test at the mirrored path, or an entry says which file tests it.

    An entry that ends in a slash speaks for every module of that folder.
    """
    found: list[str] = []
    needed: set[str] = set()
    for module in modules:
        if mirror(module.path) in paths or module.line_count < MIRRORED_FROM_LINES:
            continue
        entry = next((entry for entry in elsewhere if _speaks_for(entry, module.path)), None)
        if entry is None:
            found.append(
                f"{module.path}: write {mirror(module.path)}, or name its test in allowed.toml [tested_elsewhere]"
            )
        else:
            needed.add(entry)
    for entry, reason in elsewhere.items():
        tests = re.findall(r"tests/[\w/]+\.py", reason)
        if entry not in needed:
            found.append(f"{entry}: take it out of allowed.toml, it needs no exemption any more")
        elif not tests or any(test not in paths for test in tests):
            found.append(f"{entry}: its entry in allowed.toml must name a test file that exists")
    return found


def _speaks_for(entry: str, path: str) -> bool:
    return entry == path or (entry.endswith("/") and path.startswith(entry))
