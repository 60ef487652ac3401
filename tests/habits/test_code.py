"""The code keeps the habits, and each rule finds a planted violation."""

import statistics

import pytest

from tests.habits import code_checks as checks
from tests.habits.sources import ALL_CODE, Source, allowed, python, repository


def planted(text: str) -> Source:
    """Return a source with ``text``, as if it were in the package."""
    return Source("penstock/planted.py", text)


def no_violations(sentences: list[str]) -> None:
    """Fail with one line a violation."""
    if sentences:
        pytest.fail("\n".join(sentences), pytrace=False)


def test_files_and_functions_are_short() -> None:
    generated = ("docs/reference/", "requirements")
    looked_at = [
        source
        for source in repository()
        if source.path.endswith((".py", ".toml", ".md", ".sh", ".css", ".js"))
        and not source.path.startswith(generated)
    ]
    no_violations([sentence for source in looked_at for sentence in checks.too_long(source)])


def test_a_long_file_and_a_long_function_are_found() -> None:
    assert checks.too_long(planted("x = 1\n" * 500)) == []
    assert "501 lines" in checks.too_long(planted("x = 1\n" * 501))[0]
    assert checks.too_long(planted("def f():\n" + "    x = 1\n" * 59)) == []
    assert "f has 61 lines" in checks.too_long(planted("def f():\n" + "    x = 1\n" * 60))[0]


def test_sizes_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """The budget is a median of 120 lines and 1.5 times as much test as code; both are aims, so they are printed."""
    code = [source.line_count for source in python("penstock") if source.line_count > 1]
    tests = [source.line_count for source in python("tests")]
    with capsys.disabled():
        print(  # noqa: T201 - the report is the point
            f"\n{len(code)} modules, median {statistics.median(code):.0f} lines (aim 120), longest {max(code)}; "
            f"test:code {sum(tests) / sum(code):.2f} (aim 1.50)"
        )


def test_every_module_says_what_it_is_for() -> None:
    no_violations([sentence for source in python(*ALL_CODE) for sentence in checks.without_docstring(source)])


def test_a_module_without_docstring_is_found() -> None:
    assert checks.without_docstring(planted("x = 1\n"))
    assert checks.without_docstring(planted('"""  """\nx = 1\n'))
    assert not checks.without_docstring(planted('"""What it is for."""\nx = 1\n'))
    assert not checks.without_docstring(planted(""))


def test_public_functions_are_annotated() -> None:
    folders = ("penstock", "bench", "tools", "recipes")
    no_violations([sentence for source in python(*folders) for sentence in checks.unannotated(source)])


def test_a_missing_annotation_is_found() -> None:
    (sentence,) = checks.unannotated(planted("def f(a, *, b: int, **c): ..."))
    assert sentence.endswith("annotate a, c, return")
    assert not checks.unannotated(planted("class A:\n    def f(self, a: int) -> None: ..."))
    assert checks.unannotated(planted("async def f() : ..."))


def test_nobody_sleeps_without_reason() -> None:
    exempt = allowed("sleeps")
    sleepers = {source.path: lines for source in python(*ALL_CODE) if (lines := checks.sleeps(source))}
    no_violations(
        [
            f"{path}:{lines[0]}: wait for an event or take a clock; a real polling loop is named in allowed.toml"
            for path, lines in sleepers.items()
            if path not in exempt
        ]
        + [
            f"{path}: take it out of allowed.toml, it no longer sleeps"
            for path in exempt
            if path not in sleepers
        ]
        + [f"{path}: give the reason in allowed.toml" for path, reason in exempt.items() if len(reason) < 20]
    )


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.sleep(1)",
        "import time as t\nt.sleep(1)",
        "from time import sleep\nsleep(1)",
        "from time import sleep as nap\nnap(1)",
        "import time\nwait = time.sleep\nwait(1)",
    ],
)
def test_sleeping_is_found_under_any_name(text: str) -> None:
    assert checks.sleeps(planted(text))
    assert not checks.sleeps(planted(text.replace("sleep", "monotonic")))


def test_no_error_is_swallowed_silently() -> None:
    no_violations([sentence for source in python(*ALL_CODE) for sentence in checks.silent_excepts(source)])


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    f()\nexcept:\n    g()",
        "try:\n    f()\nexcept OSError:\n    pass",
        "try:\n    f()\nexcept OSError:\n    ...",
        "for x in y:\n    try:\n        f()\n    except OSError:\n        continue",
        "try:\n    f()\nexcept OSError:  # noqa: S110\n    pass",
        "with suppress(OSError):\n    f()",
        "with contextlib.suppress(OSError):\n    f()",
    ],
)
def test_a_swallowed_error_is_found(text: str) -> None:
    assert checks.silent_excepts(planted(text))


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    f()\nexcept OSError:\n    pass  # already gone, which is what we want",
        "try:\n    f()\nexcept OSError:\n    # already gone, which is what we want\n    pass",
        "try:\n    f()\nexcept OSError:  # noqa: S110 - already gone, which is what we want\n    pass",
        "try:\n    f()\nexcept OSError as error:\n    raise Mine from error",
        "with suppress(OSError):  # already gone, which is what we want\n    f()",
        "# already gone, which is what we want\nwith suppress(OSError):\n    f()",
    ],
)
def test_a_swallowed_error_with_its_reason_is_fine(text: str) -> None:
    assert not checks.silent_excepts(planted(text))


def test_suppressions_carry_their_reason() -> None:
    no_violations(
        [sentence for source in python(*ALL_CODE) for sentence in checks.unreasoned_suppressions(source)]
    )


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa",
        "# noqa: S603",
        "# noqa: S603 - x",
        "# NOQA",
        "# ruff: noqa",
        "# ruff: noqa: S101",
        "# type: ignore[arg-type] - because of this and that",
        "# pyright: ignore",
        "# pyright: ignore[reportPrivateUsage]",
    ],
)
def test_a_suppression_without_reason_is_found(comment: str) -> None:
    assert checks.unreasoned_suppressions(planted(f"x = 1  {comment}\n"))


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa: S603 - starts our own server",
        "# noqa: S603, S607 - starts our own server",
        "# pyright: ignore[reportPrivateUsage] - no public way",
        "# a plain comment",
    ],
)
def test_a_suppression_with_its_reason_is_fine(comment: str) -> None:
    assert not checks.unreasoned_suppressions(planted(f"x = 1  {comment}\n"))


def test_a_suppression_within_a_string_is_no_suppression() -> None:
    assert not checks.unreasoned_suppressions(planted('x = "# noqa"\n'))
