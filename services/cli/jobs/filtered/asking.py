"""Asks the same of many jobs, some at a time, and tells what came of it."""

import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TypeAlias

import anyio
import click

from events.ids import JobId
from events.requests import Problem, Reply
from services.cli.invocation import Exit
from services.cli.jobs.bulk import Bar
from services.cli.jobs.filtered.verbs import Verb, come_to
from services.cli.output import show_json, show_table
from services.errors import LogUnavailable, UnreadableAnswer
from tui import present

IN_FLIGHT_MAX = 64
"""Requests that wait for their answers at the same time."""
UNANSWERED_MAX = 16
"""After so many requests without an answer nobody is asked any more; those in flight are waited
for."""
MOVED_ON = "job_ended"
"""The refusal of a job that has ended since it was chosen: nothing is left to be done."""

AskOne: TypeAlias = Callable[[JobId], Awaitable[Reply]]


async def ask_all(jobs: Sequence[JobId], ask: AskOne, tally: "Tally") -> None:
    """Ask the same of each job and count the answers; one that is refused keeps back no other."""
    with ExitStack() as stack:
        if sys.stderr.isatty():
            tally.advance = stack.enter_context(Bar(len(jobs)))
        waiting = iter(jobs)
        async with anyio.create_task_group() as tasks:
            for _ in range(min(IN_FLIGHT_MAX, len(jobs))):
                tasks.start_soon(_ask_in_turn, waiting, ask, tally)
    tally.show()


async def _ask_in_turn(waiting: Iterator[JobId], ask: AskOne, tally: "Tally") -> None:
    for job in waiting:
        if tally.unanswered >= UNANSWERED_MAX:
            tally.count(job, _problem(job, "not_asked", "too many had no answer"))
            continue
        try:
            reply = await ask(job)
        except (LogUnavailable, UnreadableAnswer) as error:
            tally.unanswered += 1
            reply = _problem(job, "unanswered", str(error))
        tally.count(job, reply)


class Tally:
    """Counts the answers to one request about many jobs."""

    def __init__(self, verb: Verb, *, as_json: bool, chosen: bool) -> None:
        """`chosen`: a filter chose them, so that one which has ended since is as good as done."""
        self._verb = verb
        self._as_json = as_json
        self._chosen = chosen
        self._done: Counter[str] = Counter()
        self._refused: Counter[tuple[str, str]] = Counter()
        self.unanswered = 0
        self.carried_out: list[JobId] = []
        self.advance: Callable[[], None] = _nothing

    def count(self, job: JobId, reply: Reply) -> None:
        """Count one answer, and print it if it is for programs."""
        if reply.error is None:
            self._done[reply.status] += 1
            self.carried_out.append(job)
        else:
            self._refused[reply.error.code, reply.error.message] += 1
        if self._as_json:
            show_json(reply)
        self.advance()

    @property
    def exit(self) -> Exit:
        """What the call comes to: whether something is left that should have been done."""
        codes = {code for code, _ in self._refused}
        if codes & {"unanswered", "not_asked"}:
            return Exit.UNREACHABLE
        if codes - ({MOVED_ON} if self._chosen else set()):
            return Exit.REFUSED
        return Exit.OK

    def show(self) -> None:
        """Print how many jobs had which answer, unless each was printed for programs."""
        if self._as_json:
            return
        rows = [
            (present.count(number), "done", f"now {come_to(self._verb, word)}")
            for word, number in self._done.most_common()
        ]
        for (code, message), number in self._refused.most_common():
            word = code.replace("_", " ") if code in {"unanswered", "not_asked"} else "refused"
            rows.append((present.count(number), word, message))
        show_table((">jobs", "outcome", ""), rows)


def _problem(job: JobId, code: str, message: str) -> Reply:
    return Reply(job_id=job, error=Problem(code=code, message=message))


def _nothing() -> None:
    """Advance no bar."""


def confirmed(question: str) -> bool | None:
    """Ask a person; None: there is none to ask."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    return click.confirm(question, err=True)
