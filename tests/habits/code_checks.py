"""Rules about code. Each takes one source and returns a sentence, saying what to do, for each violation."""

import ast
import builtins
import re

from tests.habits.sources import Function, Source

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
_REASON_CHARACTERS_MIN = 8

_NOQA = re.compile(
    r"#\s*(?:ruff:\s*)?noqa(?P<codes>:\s*[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*)?(?P<rest>.*)", re.IGNORECASE
)
_PYRIGHT = re.compile(r"#\s*pyright:\s*ignore(?P<codes>\[[^\]]+\])?(?P<rest>.*)")
_TYPE_IGNORE = re.compile(r"#\s*type:\s*ignore")


def too_long(source: Source) -> list[str]:
    """Files and functions have a hard limit of lines."""
    found: list[str] = []
    if source.line_count > FILE_LINES_MAX:
        found.append(
            f"{source.path} has {source.line_count} lines: split it by noun, {FILE_LINES_MAX} are the limit"
        )
    if source.path.endswith(".py"):
        for function in source.functions():
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                found.append(
                    f"{source.path}:{function.lineno} {function.name} has {lines} lines: "
                    f"extract a function, {FUNCTION_LINES_MAX} are the limit"
                )
    return found


def without_docstring(source: Source) -> list[str]:
    """A module opens with what it is for."""
    if source.tree.body and not (ast.get_docstring(source.tree) or "").strip():
        return [f"{source.path}: open the module with a docstring that says what it is for"]
    return []


def _missing_annotations(function: Function) -> list[str]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    named += [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    missing = [
        argument.arg
        for argument in named
        if argument.annotation is None and argument.arg not in {"self", "cls"}
    ]
    return missing if function.returns else [*missing, "return"]


def unannotated(source: Source) -> list[str]:
    """Every public function says what it takes and what it gives."""
    return [
        f"{source.path}:{function.lineno} {function.name}: annotate {', '.join(missing)}"
        for function in source.functions()
        if not function.name.startswith("_") and (missing := _missing_annotations(function))
    ]


def sleeps(source: Source) -> list[int]:
    """Return the lines that call ``time.sleep``, under whatever name it was imported."""
    modules: set[str] = set()
    functions: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            modules.update(alias.asname or alias.name for alias in node.names if alias.name == "time")
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            functions.update(alias.asname or alias.name for alias in node.names if alias.name == "sleep")
    found: list[int] = []
    for node in ast.walk(source.tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr="sleep") if name in modules:
                found.append(node.lineno)
            case ast.Call(func=ast.Name(id=name)) if name in functions:
                found.append(node.lineno)
            case _:
                pass
    return sorted(found)


def _is_silent(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Continue() | ast.Expr(value=ast.Constant(value=builtins.Ellipsis)):
            return True
        case _:
            return False


def _has_reason(source: Source, first: int, last: int) -> bool:
    for line in range(first, last + 1):
        words = re.sub(r"#\s*(noqa|pyright|fmt)\b.*?(?= - |$)", "", source.comments.get(line, "")).strip(
            "#- "
        )
        if len(words) >= _REASON_CHARACTERS_MIN:
            return True
    return False


def silent_excepts(source: Source) -> list[str]:
    """An error that is swallowed says in a comment why that is right."""
    found: list[str] = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                found.append(
                    f"{source.path}:{node.lineno}: name the exceptions; a bare except catches Ctrl-C too"
                )
            silent = all(_is_silent(statement) for statement in node.body)
            if silent and not _has_reason(source, node.lineno, node.body[-1].end_lineno or node.lineno):
                found.append(f"{source.path}:{node.lineno}: say in a comment why this error may be swallowed")
        elif (
            isinstance(node, ast.With | ast.AsyncWith)
            and _suppresses(node)
            and not _has_reason(source, node.lineno - 1, node.body[0].lineno)
        ):
            found.append(f"{source.path}:{node.lineno}: say in a comment why this error may be suppressed")
    return found


def _suppresses(node: ast.With | ast.AsyncWith) -> bool:
    for item in node.items:
        match item.context_expr:
            case ast.Call(func=ast.Name(id="suppress")) | ast.Call(func=ast.Attribute(attr="suppress")):
                return True
            case _:
                continue
    return False


def unreasoned_suppressions(source: Source) -> list[str]:
    """A check that is switched off on a line says there which one, and why."""
    found: list[str] = []
    for line, comment in source.comments.items():
        where = f"{source.path}:{line}"
        if _TYPE_IGNORE.search(comment):
            found.append(f"{where}: write '# pyright: ignore[rule] - why' instead of type: ignore")
        for pattern, form in ((_NOQA, "# noqa: CODE - why"), (_PYRIGHT, "# pyright: ignore[rule] - why")):
            hit = pattern.search(comment)
            if hit is None:
                continue
            if not hit["codes"]:
                found.append(f"{where}: name the rule that is switched off: '{form}'")
            elif len(hit["rest"].strip(" -#:")) < _REASON_CHARACTERS_MIN:
                found.append(f"{where}: say why on the same line: '{form}'")
    return found
