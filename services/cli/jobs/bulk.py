"""Bulk submission: jobs from a file, a pipe or a count, sent in chunks, answered one by one."""

import signal
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Self

import click
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from events.ids import JobId
from events.requests import InvalidRequest, Problem, Reply, SubmitJob, decode_request
from services.cli.invocation import Exit, Fleet
from services.cli.jobs.request import Payload, checked, numbered
from services.cli.jobs.watch import first_of, watch_to_end
from services.cli.output import complain, console, show_json
from services.clock import random_id

FOLLOWED_MAX = 100_000
"""Most jobs one `--follow` keeps in sight."""
COMPLAINTS_MAX = 20
"""Most refusals of a bulk submission that are told one by one."""
LINE_BYTES_MAX = 512 * 1024
"""Longest line of a bulk file."""


class Plan(Struct, frozen=True, kw_only=True):
    """What this call is to do."""

    as_json: bool
    follow: bool
    total: int | None
    """How many jobs there are; None is not known."""


async def submit_many(fleet: Fleet, bodies: Iterable[bytes | Reply], plan: Plan) -> int:
    """Submit jobs, tell what became of each, and follow them if the plan says so."""
    tally = _Tally(plan)
    with ExitStack() as stack:
        stack.enter_context(_interruptible())
        if sys.stderr.isatty():
            tally.advance = stack.enter_context(Bar(plan.total))
        async for replies in fleet.client.submit_many(tally.sendable(bodies)):
            tally.count(replies)
    if not plan.as_json:
        click.echo(tally.words())
    ended = Exit.OK
    if plan.follow and tally.kept:
        jobs = list(dict.fromkeys(JobId(reply.job_id) for reply in tally.kept))
        after = first_of(tally.kept)
        ended = await watch_to_end(fleet, jobs, after=after, as_json=plan.as_json)
    return ended if tally.refused == 0 else Exit.REFUSED


@contextmanager
def _interruptible() -> Generator[None]:
    """Let Ctrl-C end a read at once, while the context lasts.

    The event loop's own handler waits for its turn, which a read from a terminal or a slow pipe
    does not give it.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Tally:
    """Counts the answers of a bulk submission."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._accepted = self._known = self.refused = 0
        self.kept: list[Reply] = []
        """The jobs to follow."""
        self.advance = _nothing

    def sendable(self, bodies: Iterable[bytes | Reply]) -> Iterator[bytes]:
        """Pass on what can be sent, and count what was refused before it was."""
        for body in bodies:
            if isinstance(body, Reply):
                self.count((body,))
            else:
                yield body

    def count(self, replies: Iterable[Reply]) -> None:
        """Count answers; tell of each as the plan says."""
        for reply in replies:
            if reply.error is not None:
                self.refused += 1
                if self._plan.as_json or self.refused <= COMPLAINTS_MAX:
                    show_refusal(reply, as_json=self._plan.as_json)
            else:
                self._known += reply.duplicate
                self._accepted += not reply.duplicate
                if self._plan.as_json and not self._plan.follow:
                    show_json(reply)
                if self._plan.follow and len(self.kept) < FOLLOWED_MAX:
                    self.kept.append(reply)
            self.advance()

    def words(self) -> str:
        """Return the sums."""
        return (
            f"{self._accepted:,} accepted, {self._known:,} were there already, "
            f"{self.refused:,} refused"
        )


def _nothing() -> None:
    """Advance no bar."""


def repeated(payload: Payload, count: int) -> Iterator[bytes]:
    """Iterate over `count` jobs of the same request."""
    for number in range(1, count + 1):
        yield msgspec.json.encode(identified(checked(numbered(payload, number))))


def from_file(file: IO[bytes], payload: Payload) -> Iterator[bytes | Reply]:
    """Read one job a line; options are what lines do not say; a wrong line is its own refusal."""
    for number, text in enumerate(iter(lambda: file.readline(LINE_BYTES_MAX + 1), b""), start=1):
        if not text.strip():
            continue
        try:
            merged = {**numbered(payload, number), **msgspec.json.decode(text, type=Payload)}
            yield msgspec.json.encode(
                identified(decode_request(SubmitJob, msgspec.json.encode(merged)))
            )
        except InvalidRequest as invalid:
            yield _refused(number, invalid.field, invalid.message)
        except msgspec.DecodeError as error:
            yield _refused(number, "$", f"no JSON object: {error}")


def _refused(number: int, field: str, message: str) -> Reply:
    return Reply(error=Problem(code="invalid", message=f"line {number}: {message}", field=field))


def lines_of(file: IO[bytes]) -> int | None:
    """Return how many lines a regular file has; None for a pipe."""
    name = getattr(file, "name", "")
    if not file.seekable() or not Path(str(name)).is_file():
        return None
    lines = sum(1 for _ in file)
    file.seek(0)
    return lines


class Bar:
    """A progress bar on stderr."""

    def __init__(self, total: int | None) -> None:
        from rich.progress import (  # noqa: PLC0415 - only on a terminal
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console(stderr=True)
        )
        self._row = self._progress.add_task("jobs", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self) -> None:
        """Advance by one."""
        self._progress.advance(self._row)


def show_refusal(reply: Reply, *, as_json: bool) -> None:
    """Tell that a job was refused, and why."""
    assert reply.error is not None
    if as_json:
        show_json(reply)
        return
    complain(f"refused: {reply.error.message}")


def identified(job: SubmitJob) -> SubmitJob:
    """Return the job with an id of ours if it has nothing by which a repetition is known."""
    if job.job_id is not None or job.idempotency_key is not None:
        return job
    return replace(job, job_id=JobId(random_id()))
