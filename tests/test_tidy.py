"""The house rules hold, and each of them can be broken."""

from collections import Counter
from pathlib import PurePosixPath

import pytest

from tests import tidy
from tests.tidy import FOLDER_MODULES_MAX, RULES, Rule, Source, sources

SOURCES = sources()

PLANTED: tuple[tuple[Rule, str, str, str], ...] = (
    (
        tidy.functions_are_short,
        "events/x.py",
        "def f():\n" + "    pass\n" * 50,
        "`f` has 51 lines; at most 50: give its parts names of their own",
    ),
    (
        tidy.functions_take_few_parameters,
        "events/x.py",
        "def f(a, b, *, c, d, e, f): ...",
        "`f` takes 6 parameters; at most 5: group what belongs together in a struct",
    ),
    (
        tidy.functions_take_few_parameters,
        "events/x.py",
        "class X:\n    def f(self, a, b, c, d, e): ...",
        "`f` takes 5 positional parameters; at most 4: make the others keyword-only",
    ),
    (
        tidy.functions_are_simple,
        "events/x.py",
        "def f(a):\n" + "    if a: pass\n" * 10,
        "`f` has 11 paths; at most 10: use a table or a function for each case",
    ),
    (
        tidy.functions_are_simple,
        "events/x.py",
        "def f(a):\n for b in a:\n  for c in b:\n   if c:\n    while c:\n     if a: pass",
        "`f` nests 5 deep; at most 4: return early",
    ),
    (
        tidy.modules_are_short,
        "events/x.py",
        "a = 1\n" * 401,
        "401 lines; at most 400: split it where its subject changes",
    ),
    (tidy.lines_are_short, "events/x.py", "#" * 101, "101 columns; at most 100"),
    (
        tidy.banned_names_have_replacements,
        "services/x.py",
        "from datetime import datetime\ndatetime.now()",
        "`datetime.now` is banned: use the `Clock` you were given",
    ),
    (
        tidy.banned_names_have_replacements,
        "services/x.py",
        "import random\nrandom.random()",
        "`random.random` is banned: derive it from what you were given, or take a `random.Random`",
    ),
    (
        tidy.banned_names_have_replacements,
        "tui/x.py",
        "print('x')",
        "`print` is banned: log it, or write to the stream you were given",
    ),
    (
        tidy.imports_have_their_places,
        "services/x.py",
        "import asyncio",
        "`asyncio` is banned: use anyio",
    ),
    (
        tidy.imports_have_their_places,
        "services/x.py",
        "from asyncio.subprocess import PIPE",
        "`asyncio` is banned: use anyio",
    ),
    (
        tidy.imports_have_their_places,
        "services/x.py",
        "from uuid import uuid4",
        "`uuid4` is banned: use the id you were given",
    ),
    (
        tidy.imports_have_their_places,
        "services/x.py",
        "from . import y",
        "relative import: write the whole name",
    ),
    (
        tidy.errors_are_not_swallowed,
        "services/x.py",
        "try:\n    f()\nexcept (ValueError, Exception):\n    pass",
        (
            "everything is caught and nothing raised: name the errors you can handle, "
            "or raise again; who may keep them is listed in tests/tidy.py"
        ),
    ),
    (
        tidy.tests_do_not_sleep,
        "tests/unit/test_x.py",
        "import time\ntime.sleep(1)",
        "a sleep in a test: await the signal, or poll with a deadline",
    ),
    (
        tidy.tests_assert,
        "tests/unit/test_x.py",
        "def test_it_works():\n    print(1)",
        "`test_it_works` asserts nothing",
    ),
    (
        tidy.comments_leave_no_debt,
        "events/x.py",
        "a = 1  # TODO: b",
        "`TODO` marker: do it, or write an issue or an ADR",
    ),
    (
        tidy.exceptions_to_rules_have_reasons,
        "events/x.py",
        "a = 1  # noqa",
        "`noqa` without a code: name what is silenced",
    ),
    (
        tidy.exceptions_to_rules_have_reasons,
        "events/x.py",
        "a = 1  # noqa: E501",
        "`noqa` without a reason: add ` - because`",
    ),
    (
        tidy.exceptions_to_rules_have_reasons,
        "events/x.py",
        "a = 1  # type: ignore[arg-type]",
        "`type: ignore` without a reason: add ` - because`",
    ),
)
ALLOWED: tuple[tuple[Rule, str, str], ...] = (
    (tidy.functions_are_simple, "events/x.py", "def f(a):\n if a: pass\n" + " elif a: pass\n" * 8),
    (tidy.banned_names_have_replacements, "services/clock.py", "datetime.now(UTC)"),
    (tidy.banned_names_have_replacements, "services/x.py", "random.Random(7)"),
    (tidy.imports_have_their_places, "services/bus/nats.py", "import asyncio"),
    (tidy.errors_are_not_swallowed, "services/x.py", "try: f()\nexcept Exception:\n    raise"),
    (tidy.errors_are_not_swallowed, "services/supervise.py", "try: f()\nexcept Exception: pass"),
    (tidy.tests_do_not_sleep, "tests/sim/test_x.py", "anyio.sleep(3600)"),
    (
        tidy.tests_assert,
        "tests/unit/test_x.py",
        "def same(a, b):\n    assert a == b\ndef test_it():\n    same(1, 1)",
    ),
    (tidy.exceptions_to_rules_have_reasons, "events/x.py", "a = 1  # noqa: S105 - a token"),
    (
        tidy.exceptions_to_rules_have_reasons,
        "events/x.py",
        "a = 1  # type: ignore[x] # pyright: ignore[y] - both say so",
    ),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_holds_everywhere(rule: Rule) -> None:
    broken = [
        f"{source.path}:{problem.line}: {problem.message}"
        for source in SOURCES
        for problem in rule(source)
    ]
    assert broken == [], "\n".join(broken)


def test_no_folder_has_too_many_modules() -> None:
    modules = [PurePosixPath(source.path) for source in SOURCES]
    sizes = Counter(
        str(path.parent)
        for path in modules
        if not path.name.startswith("_") and path.parts[0] != "tests"
    )
    crowded = {folder: size for folder, size in sizes.items() if size > FOLDER_MODULES_MAX}
    assert crowded == {}, f"at most {FOLDER_MODULES_MAX} modules a folder: group them by subject"


@pytest.mark.parametrize(("rule", "path", "text", "message"), PLANTED)
def test_a_rule_tells_what_breaks_it(rule: Rule, path: str, text: str, message: str) -> None:
    assert [problem.message for problem in rule(Source(path, text))] == [message]


@pytest.mark.parametrize(("rule", "path", "text"), ALLOWED)
def test_a_rule_allows_what_it_should(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text))) == []


def test_every_rule_was_broken_once() -> None:
    assert {rule for rule, *_ in PLANTED} == set(RULES)


def test_the_tree_is_not_empty() -> None:
    assert {source.path.split("/")[0] for source in SOURCES} == set(tidy.ROOTS)
