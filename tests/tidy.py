"""House rules as functions: each finds what breaks it, and says what to do instead."""

import ast
import functools
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

REPO = Path(__file__).parents[1]
ROOTS = ("events", "projections", "services", "tui", "tests")

FUNCTION_LINES_MAX = 50
PARAMETERS_MAX = 5
POSITIONAL_MAX = 4
COMPLEXITY_MAX = 10
NESTING_MAX = 4
MODULE_LINES_MAX = 400
LINE_COLUMNS_MAX = 100
FOLDER_MODULES_MAX = 10

CLOCK = "services/clock.py"
KEEPERS = {
    "services/supervise.py": "a child that crashes is started again",
    "services/contain.py": "one part that fails must not end its siblings",
    "services/worker/guard/threads.py": "what a thread raises is raised where it is waited for",
    "services/bus/answering.py": "a handler that fails answers with an error",
    "services/cli/main.py": "the last resort: words for people instead of a traceback",
}
"""Who may catch everything and raise nothing, and why."""
ADAPTERS = ("services/log/jetstream/", "services/bus/nats.py")
"""Where asyncio is at home, and where a client calls back with as many arguments as it likes."""
WAITING = (
    "tests/bench/",
    "tests/fakes.py",
    "tests/sim/",
    "tests/waiting.py",
    "tests/acceptance/waiting.py",
)

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Source(NamedTuple):
    """One module: its path below the repository, and what is in it."""

    path: str
    text: str

    @property
    def is_test(self) -> bool:
        """Whether it is part of the tests."""
        return self.path.startswith("tests/")

    @property
    def may_use_asyncio(self) -> bool:
        """Whether it is an adapter, or a test of one."""
        return self.is_test or self.path.startswith(ADAPTERS)

    def tree(self) -> ast.Module:
        """Return the syntax tree."""
        return _parsed(self)

    def functions(self) -> Iterator[Function]:
        """Iterate over all functions, methods and inner functions included."""
        return (node for node in ast.walk(self.tree()) if isinstance(node, Function))

    def comments(self) -> Iterator[tuple[int, str]]:
        """Iterate over line and text of all comments."""
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


@functools.cache
def _parsed(source: Source) -> ast.Module:
    return ast.parse(source.text, source.path)


class Problem(NamedTuple):
    """One thing that breaks a rule."""

    line: int
    message: str


Rule: TypeAlias = Callable[[Source], Iterator[Problem]]


def sources() -> list[Source]:
    """Return all modules of the project."""
    paths = sorted(path for root in ROOTS for path in (REPO / root).rglob("*.py"))
    return [
        Source(path.relative_to(REPO).as_posix(), path.read_text(encoding="utf-8"))
        for path in paths
    ]


def functions_are_short(source: Source) -> Iterator[Problem]:
    """Find functions longer than a screen."""
    for function in source.functions():
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > FUNCTION_LINES_MAX:
            yield Problem(
                function.lineno,
                f"`{function.name}` has {lines} lines; at most {FUNCTION_LINES_MAX}: "
                "give its parts names of their own",
            )


def functions_take_few_parameters(source: Source) -> Iterator[Problem]:
    """Find functions with many parameters, or with many that have no name at the call."""
    for function in source.functions():
        if function.name.startswith("test_"):
            continue  # they are called by name
        given = function.args.posonlyargs + function.args.args
        positional = [arg for arg in given if arg.arg not in {"self", "cls"}]
        count = len(positional) + len(function.args.kwonlyargs)
        if count > PARAMETERS_MAX:
            yield Problem(
                function.lineno,
                f"`{function.name}` takes {count} parameters; at most {PARAMETERS_MAX}: "
                "group what belongs together in a struct",
            )
        if len(positional) > POSITIONAL_MAX and not source.path.startswith(ADAPTERS):
            yield Problem(
                function.lineno,
                f"`{function.name}` takes {len(positional)} positional parameters; at most "
                f"{POSITIONAL_MAX}: make the others keyword-only",
            )


def functions_are_simple(source: Source) -> Iterator[Problem]:
    """Find functions with many paths, or with paths inside paths inside paths."""
    for function in source.functions():
        paths = 1 + sum(map(_branches, _own(function)))
        if paths > COMPLEXITY_MAX:
            yield Problem(
                function.lineno,
                f"`{function.name}` has {paths} paths; at most {COMPLEXITY_MAX}: "
                "use a table or a function for each case",
            )
        depth = _depth(function)
        if depth > NESTING_MAX:
            yield Problem(
                function.lineno,
                f"`{function.name}` nests {depth} deep; at most {NESTING_MAX}: return early",
            )


def modules_are_short(source: Source) -> Iterator[Problem]:
    """Find modules that are about more than one thing."""
    lines = source.text.count("\n")
    if lines > MODULE_LINES_MAX:
        yield Problem(
            lines, f"{lines} lines; at most {MODULE_LINES_MAX}: split it where its subject changes"
        )


def lines_are_short(source: Source) -> Iterator[Problem]:
    """Find lines that do not fit beside another file."""
    for number, line in enumerate(source.text.splitlines(), start=1):
        if len(line) > LINE_COLUMNS_MAX and "noqa: E501" not in line and "pyright: " not in line:
            yield Problem(number, f"{len(line)} columns; at most {LINE_COLUMNS_MAX}")


def banned_names_have_replacements(source: Source) -> Iterator[Problem]:
    """Find names that bring hidden input or output."""
    for node in ast.walk(source.tree()):
        if not isinstance(node, ast.Attribute | ast.Name):
            continue
        name = ast.unparse(node)
        for banned in BANNED:
            if banned.name.fullmatch(name) and banned.applies_to(source.path):
                yield Problem(node.lineno, f"`{name}` is banned: {banned.instead}")


def imports_have_their_places(source: Source) -> Iterator[Problem]:
    """Find relative imports, and asyncio outside the adapters."""
    for node in ast.walk(source.tree()):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = {alias.name for alias in node.names}
        modules = {node.module or ""} if isinstance(node, ast.ImportFrom) else names
        if isinstance(node, ast.ImportFrom) and node.level:
            yield Problem(node.lineno, "relative import: write the whole name")
        if "asyncio" in {name.split(".")[0] for name in modules} and not source.may_use_asyncio:
            yield Problem(node.lineno, "`asyncio` is banned: use anyio")
        if "uuid4" in names:
            yield Problem(node.lineno, "`uuid4` is banned: use the id you were given")


def errors_are_not_swallowed(source: Source) -> Iterator[Problem]:
    """Find handlers of everything that let nothing through."""
    for node in ast.walk(source.tree()):
        if not isinstance(node, ast.ExceptHandler) or source.path in KEEPERS:
            continue
        broad = node.type is None or {"Exception", "BaseException"} & {
            part.id for part in ast.walk(node.type) if isinstance(part, ast.Name)
        }
        if broad and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
            yield Problem(
                node.lineno,
                "everything is caught and nothing raised: name the errors you can handle, "
                "or raise again; who may keep them is listed in tests/tidy.py",
            )


def tests_do_not_sleep(source: Source) -> Iterator[Problem]:
    """Find tests that hope something has happened by then."""
    if not source.is_test or source.path.startswith(WAITING):
        return
    for node in ast.walk(source.tree()):
        if isinstance(node, ast.Call) and _sleep(ast.unparse(node.func)):
            yield Problem(
                node.lineno, "a sleep in a test: await the signal, or poll with a deadline"
            )


def tests_assert(source: Source) -> Iterator[Problem]:
    """Find tests that cannot fail."""
    if not Path(source.path).name.startswith("test_"):
        return
    checking = {function.name for function in source.functions() if _checks(function, set())}
    for function in source.functions():
        if function.name.startswith("test_") and not _checks(function, checking):
            yield Problem(function.lineno, f"`{function.name}` asserts nothing")


def comments_leave_no_debt(source: Source) -> Iterator[Problem]:
    """Find promises to do it later."""
    for line, comment in source.comments():
        found = _debt(comment)
        if found:
            yield Problem(line, f"`{found[0]}` marker: do it, or write an issue or an ADR")


def exceptions_to_rules_have_reasons(source: Source) -> Iterator[Problem]:
    """Find silenced checkers without the code that is silenced, or without the reason.

    The reason is behind the code, or a comment on the line above.
    """
    lines = ["", *source.text.splitlines()]
    for line, comment in source.comments():
        explained = lines[line - 1].lstrip().startswith("# ")
        for found in _silenced(comment):
            kind, code, rest = found["kind"], found["code"], found["rest"]
            if not code:
                yield Problem(line, f"`{kind}` without a code: name what is silenced")
            elif not explained and not _reason(_silence.sub("", rest)):
                yield Problem(line, f"`{kind}` without a reason: add ` - because`")


class Banned(NamedTuple):
    """A name that is not used, and what is used instead."""

    name: re.Pattern[str]
    instead: str
    allowed: tuple[str, ...] = ()

    def applies_to(self, path: str) -> bool:
        """Tell whether the name is banned in this module."""
        return not path.startswith(("tests/", *self.allowed))


BANNED = (
    Banned(
        re.compile(r"(datetime\.)?datetime\.(now|utcnow|today)"),
        "use the `Clock` you were given",
        (CLOCK,),
    ),
    Banned(re.compile(r"time\.(time|time_ns|monotonic)"), "use the `Clock` you were given"),
    Banned(re.compile(r"time\.sleep"), "use `anyio.sleep` or await the signal"),
    Banned(
        re.compile(r"random\.(?!Random\b)\w+"),
        "derive it from what you were given, or take a `random.Random`",
    ),
    Banned(re.compile(r"uuid\.uuid[14]"), "use the id you were given"),
    Banned(re.compile(r"print"), "log it, or write to the stream you were given"),
)

CHECKS = {"raises", "warns", "check_schema", "validate", "until", "eventually"}
"""Calls that raise by themselves when what is expected is not so."""

_sleep = re.compile(r"(anyio|trio|asyncio|time)\.sleep").fullmatch
_debt = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b").search
_reason = re.compile(r"[-#] *\w.*\w").search
_silence = re.compile(
    r"(?P<kind>noqa|type: ignore|pyright: ignore)"
    r"(?P<code>(?:: [A-Z]+[0-9]+(?:, ?[A-Z]+[0-9]+)*|\[[\w, -]+\])?)"
)


def _silenced(comment: str) -> Iterator[dict[str, str]]:
    for found in _silence.finditer(comment):
        yield {
            "kind": found["kind"],
            "code": found["code"],
            "rest": comment[found.end() :],
        }


def _own(function: Function) -> Iterator[ast.AST]:
    """Iterate over the nodes of a function without those of functions inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _branches(node: ast.AST) -> int:
    if isinstance(node, ast.Match):
        return sum(1 for case in node.cases if not _irrefutable(case.pattern))
    branching = ast.If | ast.For | ast.AsyncFor | ast.While | ast.ExceptHandler
    return 1 if isinstance(node, branching) else 0


def _irrefutable(pattern: ast.pattern) -> bool:
    return isinstance(pattern, ast.MatchAs) and pattern.pattern is None


def _depth(node: ast.AST) -> int:
    """Return how deep blocks are nested; `elif` is beside its `if`, not inside."""
    deepest = 0
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else ():  # pyright: ignore[reportUnknownVariableType] - fields are anything
            if not isinstance(child, ast.AST) or isinstance(child, Function | ast.ClassDef):
                continue
            chained = field == "orelse" and isinstance(child, ast.If)
            block = isinstance(child, ast.If | ast.For | ast.AsyncFor | ast.While | ast.Match)
            deepest = max(deepest, _depth(child) + (1 if block and not chained else 0))
    return deepest


def _checks(function: Function, checking: set[str]) -> bool:
    """Tell whether a function can fail on purpose, by itself or by one that can."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in checking or name in CHECKS:
                return True
            if name.startswith(("assert_", "run_state_machine")):
                return True
    return False


RULES: tuple[Rule, ...] = (
    functions_are_short,
    functions_take_few_parameters,
    functions_are_simple,
    modules_are_short,
    lines_are_short,
    banned_names_have_replacements,
    imports_have_their_places,
    errors_are_not_swallowed,
    tests_do_not_sleep,
    tests_assert,
    comments_leave_no_debt,
    exceptions_to_rules_have_reasons,
)
