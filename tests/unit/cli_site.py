"""A fleet in memory behind the command line that decides as a scheduler does; it keeps its log."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from click.testing import CliRunner, Result

from events.codec import Event, Fact, Recorded, Unknown
from events.subjects import Subject
from services.backbone import Backbone
from services.cli.invocation import Invocation
from services.cli.main import main
from services.clock import Pen, SystemClock
from services.log.port import Entry
from services.memory import memory_backbone
from services.scheduler.control.intake import Intake


class Site:
    """Runs commands one after another on one ledger."""

    def __init__(self) -> None:
        self._stored: list[Event] = []
        self._later: list[tuple[Subject, Fact]] = []
        self._pen = Pen("test", SystemClock(), "e")
        self.recorded: list[Recorded] = []
        """What the ledger held after the last command."""

    def tell(self, subject: Subject, *facts: Fact) -> None:
        """Store facts of an entity, as others would, before the next command."""
        self._stored += [self._pen.write(subject, fact) for fact in facts]

    def tell_later(self, subject: Subject, *facts: Fact) -> None:
        """Store facts during the next command, each when it has nothing else to do."""
        self._later += [(subject, fact) for fact in facts]

    def run(self, *args: str, stdin: str | None = None) -> Result:
        """Run the command line."""
        invocation = Invocation(
            data_dir=Path("/nonexistent"), connect=self._connect, environment={}
        )
        return CliRunner().invoke(main, args, obj=invocation, input=stdin)

    @asynccontextmanager
    async def _connect(self, url: str, name: str) -> AsyncGenerator[Backbone]:
        del url, name
        backbone = memory_backbone()
        if self._stored:
            await backbone.ledger.append([Entry(event) for event in self._stored])
        before = len(self._stored)
        intake = Intake(backbone.ledger, Pen("scheduler/1", SystemClock(), "s"), lambda: "fresh")
        async with (
            backbone.bus.serve("test", intake.endpoints()),
            anyio.create_task_group() as others,
        ):
            others.start_soon(self._speak, backbone)
            yield backbone
            others.cancel_scope.cancel()
        async with backbone.ledger.follow(after=0, live=False) as batches:
            self.recorded = [event async for batch in batches for event in batch]
        for at in self.recorded[before:]:
            assert not isinstance(at.fact, Unknown)
            self._stored.append(self._pen.write(at.subject, at.fact))

    async def _speak(self, backbone: Backbone) -> None:
        said, self._later = self._later, []
        for subject, fact in said:
            for _ in range(50):
                await anyio.lowlevel.checkpoint()
            await backbone.ledger.append([Entry(self._pen.write(subject, fact))])
