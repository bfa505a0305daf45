"""The request to explain a job, answered from the world of the scheduler that is asked."""

from functools import partial
from typing import Protocol

import anyio
import msgspec

from events import subjects
from events.ids import JobId
from events.requests import ExplainJob, Explanation, InvalidRequest, Problem, decode_request
from services.bus.port import Request
from services.clock import Clock
from services.config import SchedulerSettings
from services.log.persist import persistently
from services.log.port import EventLog
from services.scheduler.explaining.explanation import explain
from services.scheduler.explaining.gather import gather
from services.scheduler.state.world import World

CATCH_UP_S = 2.0
"""How long an answer waits for the world to have the job's last fact: whoever has just submitted a
job asks about that one. After that it is of an earlier sequence, which it names."""


class Follower(Protocol):
    """Folds the ledger as it grows."""

    @property
    def world(self) -> World:
        """What it has folded."""
        ...

    async def reach(self, seq: int) -> None:
        """Wait until the world has everything up to `seq`."""
        ...


class Explainer:
    """Answers from the world of one scheduler."""

    def __init__(
        self, follower: Follower, ledger: EventLog, *, settings: SchedulerSettings, clock: Clock
    ) -> None:
        self._follower = follower
        self._ledger = ledger
        self._settings = settings
        self._clock = clock

    async def answer(self, request: Request) -> bytes:
        """Answer one request to explain a job."""
        try:
            job = decode_request(ExplainJob, request.body).job_id
        except InvalidRequest as invalid:
            problem = Problem(code="invalid", message=invalid.message, field=invalid.field)
            return msgspec.json.encode(Explanation(error=problem))
        return msgspec.json.encode(await self._explained(job))

    async def _explained(self, job: JobId) -> Explanation:
        facts = await persistently(
            partial(self._ledger.read, subjects.job(job)), "reading what is to be explained"
        )
        if facts:
            with anyio.move_on_after(CATCH_UP_S):
                await self._follower.reach(facts[-1].seq)
        world = self._follower.world
        dossier = await persistently(
            partial(gather, world, self._ledger, job), "reading what is to be explained"
        )
        return explain(world, dossier, self._clock.now(), settings=self._settings)
