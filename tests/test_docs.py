"""What is written for people is true: commands, links, names and versions."""

import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import services.errors
from services.cli.main import main

REPO = Path(__file__).parents[1]
README = REPO / "README.md"
VERSION = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
PAGES = sorted(
    [*REPO.glob("*.md"), *(REPO / "ops").rglob("*.md"), *(REPO / ".github").rglob("*.md")]
)
ADRS = sorted((REPO / "ops" / "adr").glob("*.md"))
SECTIONS = ["Context", "Decision", "Consequences", "What would change our mind"]
ADR_LINES_MAX = 60
OPERATORS = {"|", "||", "&&", "&", ";", ">", ">>", "<", "2>&1"}


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name(path: Path) -> str:
    return path.relative_to(REPO).as_posix()


def block_lines(page: str) -> list[str]:
    """Return the lines of all code blocks."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines]


def code_in_prose(page: str) -> list[str]:
    """Return the pieces of code in the text."""
    prose = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def calls_of(program: str, lines: list[str]) -> Iterator[list[str]]:
    """Iterate over the arguments of every call of `program` in lines of shell."""
    for line in lines:
        words = shlex.split(line, comments=True) if program in line else []
        call: list[str] | None = None
        begins = True
        for word in [*words, "|"]:
            if word in OPERATORS:
                if call is not None:
                    yield call
                call, begins = None, True
            elif call is not None:
                call.append(word)
            elif begins:
                call = [] if word.rpartition("/")[2] == program else None
                begins = "=" in word


def faults_of(args: list[str], command: click.Command, *, whole: bool = True) -> Iterator[str]:
    """Iterate over what the command line's own parser would refuse in these arguments.

    What is not `whole` only names a command: its required arguments may be missing.
    """
    waiting = list(args)
    given = 0
    while waiting:
        word = waiting.pop(0)
        if word.startswith("-") and len(word) > 1:
            option, _, value = word.partition("=")
            known = _options(command).get(option)
            if known is None:
                yield f"`{command.name}` has no option {option}"
            elif not (known.is_flag or known.count or value):
                waiting = waiting[known.nargs :]
        elif isinstance(command, click.Group):
            inner = command.get_command(click.Context(command), word)
            if inner is None:
                yield f"`{command.name}` has no command {word}"
                return
            command = inner
        else:
            given += 1
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    least = sum(max(param.nargs, 1) for param in arguments if param.required) if whole else 0
    endless = any(param.nargs < 0 for param in arguments)
    if given < least or (given > sum(param.nargs for param in arguments) and not endless):
        yield f"`{command.name}` takes other arguments than {args}"


def _options(command: click.Command) -> dict[str, click.Option]:
    context = click.Context(command)
    return {
        option: param
        for param in command.get_params(context)
        if isinstance(param, click.Option)
        for option in (*param.opts, *param.secondary_opts)
    }


class TestCommands:
    def test_every_make_target_in_the_pages_is_there(self) -> None:
        targets = set(re.findall(r"^([a-z]+):", text(REPO / "Makefile"), flags=re.MULTILINE))
        lines = [
            line for page in PAGES for line in block_lines(text(page)) + code_in_prose(text(page))
        ]
        named = {call[0] for call in calls_of("make", lines) if call}
        named = {target for target in named if re.fullmatch(r"[a-z]+", target)}
        assert named - targets == set()
        assert {"demo", "test"} <= named

    def test_every_make_target_is_explained(self) -> None:
        makefile = text(REPO / "Makefile")
        phony = re.findall(r"^\.PHONY: (.+)$", makefile, flags=re.MULTILINE)[0].split()
        explained = re.findall(r"^([a-z]+):.* ## \S", makefile, flags=re.MULTILINE)
        assert sorted(explained) == sorted(phony)

    @pytest.mark.parametrize("page", PAGES, ids=name)
    def test_every_call_of_ffrtmp_is_understood_by_it(self, page: Path) -> None:
        lines = block_lines(text(page))
        faults = [fault for call in calls_of("ffrtmp", lines) for fault in faults_of(call, main)]
        for call in calls_of("ffrtmp", code_in_prose(text(page))):
            faults += faults_of(call, main, whole=False)
        assert faults == [], "\n".join(faults)

    def test_the_readme_shows_how_to_use_it(self) -> None:
        assert len(list(calls_of("ffrtmp", block_lines(text(README))))) >= 3

    def test_a_call_that_is_not_understood_is_found(self) -> None:
        page = "`ffrtmp sing`\n```sh\n$ A=1 .venv/bin/ffrtmp --loud | cat\nsee / ffrtmp\n```\n"
        calls = [
            *calls_of("ffrtmp", block_lines(page)),
            *calls_of("ffrtmp", code_in_prose(page)),
        ]
        assert calls == [["--loud"], ["sing"]]
        faults = [next(faults_of(call, main)).split("has no ")[1] for call in calls]
        assert faults == ["option --loud", "command sing"]


class TestLinks:
    @pytest.mark.parametrize("page", PAGES, ids=name)
    def test_every_link_to_a_file_leads_to_one(self, page: Path) -> None:
        prose = re.sub(r"^```.*?^```", "", text(page), flags=re.MULTILINE | re.DOTALL)
        links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose)
        files = [link for link in links if "://" not in link and not link.startswith("mailto:")]
        assert [link for link in files if not (page.parent / link).exists()] == []


class TestErrors:
    def test_the_tree_in_the_docstring_is_the_tree_of_classes(self) -> None:
        drawn = re.findall(
            r"^ +(?:[|`]-- )?([A-Z]\w+)", services.errors.__doc__ or "", flags=re.MULTILINE
        )
        classes = [
            kind.__name__
            for _, kind in inspect.getmembers(services.errors, inspect.isclass)
            if kind.__module__ == services.errors.__name__
        ]
        assert sorted(drawn) == sorted(classes)
        assert drawn[0] == "FfrtmpError"
        bases = {getattr(services.errors, leaf).__base__ for leaf in drawn[1:]}
        assert bases == {services.errors.FfrtmpError}


class TestDecisions:
    def test_they_are_numbered_without_a_gap(self) -> None:
        assert [int(path.name[:4]) for path in ADRS] == list(range(1, len(ADRS) + 1))

    @pytest.mark.parametrize("path", ADRS, ids=lambda path: path.stem)
    def test_each_says_its_state_and_has_all_sections_on_one_screen(self, path: Path) -> None:
        lines = text(path).splitlines()
        assert re.fullmatch(rf"# {path.name[:4]}: [A-Z].+", lines[0])
        state = r"State: (proposed|accepted|superseded by \d{4}), \d{4}-\d{2}-\d{2}"
        assert re.fullmatch(state, lines[2])
        assert [line[3:] for line in lines if line.startswith("## ")] == SECTIONS
        assert len(lines) <= ADR_LINES_MAX


class TestChangelog:
    def test_this_version_has_an_entry(self) -> None:
        heading = rf"^## \[{re.escape(VERSION)}\] - \d{{4}}-\d{{2}}-\d{{2}}$"
        assert re.search(heading, text(REPO / "CHANGELOG.md"), flags=re.MULTILINE)

    def test_changes_are_of_known_kinds(self) -> None:
        kinds = re.findall(r"^### (.+)$", text(REPO / "CHANGELOG.md"), flags=re.MULTILINE)
        known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
        assert set(kinds) <= known
        assert "## [Unreleased]" in text(REPO / "CHANGELOG.md")


class TestGlossary:
    def test_every_word_of_code_is_a_name_in_the_code(self) -> None:
        rows = re.findall(r"^\| ([^|]+) \|", text(REPO / "ops/GLOSSARY.md"), flags=re.MULTILINE)
        words = {word for row in rows for word in re.findall(r"`(\w+)`", row)}
        code = "\n".join(
            text(path)
            for package in ("events", "projections", "services", "tui")
            for path in (REPO / package).rglob("*.py")
        )
        defined = set(re.findall(r"^ *(?:class|(?:async )?def) (\w+)", code, flags=re.MULTILINE))
        defined |= set(re.findall(r"^(\w+)(?:: TypeAlias)? = ", code, flags=re.MULTILINE))
        assert words - defined == set()
        assert len(words) > 10


class TestWhole:
    def test_no_file_names_the_host_of_a_package_index(self) -> None:
        hosts = re.compile(r"pypi\.(org|python)|pythonhosted|registry\.npm|npmjs|deb\.debian")
        files = [
            path
            for pattern in ("*.md", "*.toml", "*.lock", "*.py", "*.txt", "Makefile", "run", "setup")
            for path in REPO.rglob(pattern)
            if not {".venv", ".git", "node_modules"} & set(path.relative_to(REPO).parts)
        ]
        named = [
            name(path) for path in files if path != Path(__file__) and hosts.search(text(path))
        ]
        assert named == []
        assert len(files) > 50
