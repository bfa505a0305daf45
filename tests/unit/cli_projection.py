"""A fleet in memory whose questions a real projection of a written ledger answers."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from events.requests import QueryRequest, Reply
from projections.query import QueryGuard, QueryLimits
from services.bus.port import Request
from tests.projecting import Ledger, projected
from tests.unit.cli_fleet import Recorder


class Projected(Recorder):
    """Answers questions from the projection, all else as a recorder does."""

    def __init__(self, guard: QueryGuard, refusal: Reply | None = None) -> None:
        super().__init__(refusal)
        self._guard = guard
        self.refusals: dict[str, Reply] = {}
        """Jobs that are refused, and how."""

    async def query(self, request: Request) -> bytes:
        return msgspec.json.encode(
            self._guard.run(msgspec.json.decode(request.body, type=QueryRequest))
        )

    async def _control(self, request: Request) -> bytes:
        answer = await super()._control(request)
        refusal = self.refusals.get(self.controlled[-1][1]["job_id"])
        return answer if refusal is None else msgspec.json.encode(refusal)


@contextmanager
def projection_of(folder: Path, ledger: Ledger, *, rows_max: int = 10_000) -> Generator[QueryGuard]:
    """Return what answers questions about this ledger, with so many rows at most."""
    store = projected(folder, ledger.recorded)
    guard = QueryGuard(store.cursor, QueryLimits(queries_max=1, rows_max=rows_max))
    try:
        yield guard
    finally:
        guard.close()
        store.close()
