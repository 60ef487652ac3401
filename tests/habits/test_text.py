"""Texts, links and the layout of the tests keep the habits, and each rule finds a planted violation."""

from pathlib import PurePosixPath

import pytest

from tests.habits import text_checks as checks
from tests.habits.sources import ROOT, Source, allowed, python, repository
from tests.habits.test_code import no_violations


def every_path() -> set[str]:
    """Return every file and every folder of the repository."""
    files = {source.path for source in repository()}
    # Pictures and other binary files are no sources, but may be linked to.
    files |= {
        str(path.relative_to(ROOT))
        for folder in ("docs", "penstock")
        for path in (ROOT / folder).rglob("*.*")
    }
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents}
    return files | folders


def test_the_repository_speaks_of_the_product_alone() -> None:
    no_violations([sentence for source in repository() for sentence in checks.forbidden_words(source)])


@pytest.mark.parametrize(
    "text",
    [
        "see /wo" + "rk/main",
        "open('/ro" + "ot/x')",
        "cd /ho" + "me/jane/penstock",
        "https://py" + "pi.org/simple",
        "https://files.python" + "hosted.org/x",
        "--index-u" + "rl https://mirror.example/simple",
        "written by cla" + "ude",
        "an LLM-wr" + "itten text",
    ],
)
def test_a_forbidden_word_is_found(text: str) -> None:
    (sentence,) = checks.forbidden_words(Source("docs/x.md", f"fine\n{text}\n"))
    assert sentence.startswith("docs/x.md:2")


def test_ordinary_words_are_fine() -> None:
    text = "the workload of /workspace; the root of a tree; node-agent; an LLM service; homework/x"
    assert checks.forbidden_words(Source("docs/x.md", text)) == []


def test_locks_name_no_registry() -> None:
    locks = [source for source in repository() if source.path.endswith(".lock")]
    assert {lock.path for lock in locks} == {"requirements.lock", "requirements-dev.lock"}
    no_violations([sentence for lock in locks for sentence in checks.registry_addresses(lock)])
    for lock in locks:
        assert "--hash=sha256:" in lock.text


@pytest.mark.parametrize(
    "line", ["--extra-index x", "a @ https://mirror.example/a.whl", "# from https://mirror.example"]
)
def test_a_registry_in_a_lock_is_found(line: str) -> None:
    fine = "a==1 \\\n    --hash=sha256:00\n"
    assert checks.registry_addresses(Source("requirements.lock", fine)) == []
    assert checks.registry_addresses(Source("requirements.lock", fine + line))


def test_links_of_the_documents_lead_somewhere() -> None:
    documents = [source for source in repository() if source.path.endswith(".md")]
    anchors = {document.path: checks.anchors_of(document) for document in documents}
    paths = every_path()
    no_violations(
        [sentence for document in documents for sentence in checks.broken_links(document, paths, anchors)]
    )


def test_decisions_have_a_number_of_their_own_and_bear_it() -> None:
    names = [path.name for path in sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))][1:]
    numbers = [name[:4] for name in names]
    assert [number for number in set(numbers) if numbers.count(number) > 1] == []
    for name in names:
        assert (ROOT / "docs" / "adr" / name).read_text().startswith(f"# {name[:4]}: "), name


def test_a_broken_link_is_found() -> None:
    paths = {"docs/a.md", "docs/b.md", "docs", "README.md", "docs/pic.svg"}
    anchors = {"docs/b.md": {"a-title"}, "docs/a.md": {"here"}}
    good = (
        "[b](b.md) [t](b.md#a-title) [up](../README.md) [own](#here) [dir](../docs) [web](https://example.org/x) "
        "![pic](pic.svg)\n```\n[not](a-link)\n```\n"
    )
    assert checks.broken_links(Source("docs/a.md", good), paths, anchors) == []
    for bad in ("[x](c.md)", "[x](b.md#other)", "[x](../docs/c.md)", "![x](c.svg)", "[x](#there)"):
        assert checks.broken_links(Source("docs/a.md", good + bad), paths, anchors), bad


def test_headings_become_anchors_as_viewers_make_them() -> None:
    assert checks.anchor("Add a `driver`, in an hour") == "add-a-driver-in-an-hour"
    assert checks.anchors_of(Source("x.md", "# One two\n```\n# not this\n```\n### Three!\n")) == {
        "one-two",
        "three",
    }


def test_tests_mirror_the_package() -> None:
    modules = [source for source in python("penstock") if "/migrations/" not in source.path]
    no_violations(checks.unmirrored(modules, every_path(), allowed("tested_elsewhere")))


def test_a_module_without_its_test_is_found() -> None:
    big, small = "x = 1\n" * 40, "x = 1\n" * 39
    module = Source("penstock/a/b.py", big)
    assert checks.mirror("penstock/a/b.py") == "tests/unit/a/test_b.py"
    assert checks.mirror("penstock/a/__init__.py") == "tests/unit/test_a.py"
    assert "write tests/unit/a/test_b.py" in checks.unmirrored([module], set(), {})[0]
    assert checks.unmirrored([module], {"tests/unit/a/test_b.py"}, {}) == []
    assert checks.unmirrored([Source("penstock/a/b.py", small)], set(), {}) == []
    excuse = {"penstock/a/b.py": "tests/flows/test_b.py runs it against the real thing"}
    assert checks.unmirrored([module], {"tests/flows/test_b.py"}, excuse) == []
    assert "that exists" in checks.unmirrored([module], set(), excuse)[0]
    assert "needs no exemption" in checks.unmirrored([module], {"tests/unit/a/test_b.py"}, excuse)[0]
    assert "needs no exemption" in checks.unmirrored([], set(), excuse)[0]
    folder = {"penstock/a/": "tests/flows/test_b.py runs it against the real thing"}
    assert checks.unmirrored([module], {"tests/flows/test_b.py"}, folder) == []
    assert checks.unmirrored([Source("penstock/ab/c.py", big)], {"tests/flows/test_b.py"}, folder)
