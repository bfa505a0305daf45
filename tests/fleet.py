"""A real fleet for tests and benches: real nats-server, real processes started by the real command.

Every process is started as a user would start it, `ffrtmp scheduler`, with settings from the
environment, and can be killed and started again. All of it listens on loopback only.
"""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import anyio
import msgspec
import psutil

from events import subjects
from events.codec import Recorded
from events.requests import BULK_JOBS_MAX, QueryRequest, QueryResult, Replies
from services.backbone import Backbone
from services.log.jetstream.backbone import open_backbone
from services.nats_server import NatsServer
from tests.servers import nats_server
from tests.waiting import until

Durability: TypeAlias = Literal["always", "100ms"]

STOP_S = 20.0
"""How long a process may take to leave after SIGTERM."""


class Fleet:
    """Processes of one fleet by name: `scheduler`, `projector`, `n1`, `n2`, …"""

    def __init__(self, server: NatsServer, backbone: Backbone, directory: Path) -> None:
        self.server = server
        self.backbone = backbone
        self.directory = directory
        self.outputs = directory / "outputs"
        self.media = directory / "media"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, role: str, **settings: object) -> subprocess.Popen[bytes]:
        """Start one process; `settings` are fields of its settings struct."""
        environment = dict(os.environ)
        environment |= {f"FFRTMP_{key.upper()}": str(value) for key, value in settings.items()}
        environment |= {"FFRTMP_NATS": self.server.url, "FFRTMP_DATA_DIR": str(self.directory)}
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.cli.main", role],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def start_scheduler(self, name: str = "scheduler", **settings: object) -> None:
        """Start a scheduler."""
        self.start(name, "scheduler", **settings)

    def start_projector(self, name: str = "projector", **settings: object) -> None:
        """Start a projector on its own file."""
        self.start(name, "projector", database=self.directory / name / "ffrtmp.duckdb", **settings)

    def start_worker(self, node: str, **settings: object) -> None:
        """Start a worker; all workers share the media and output roots."""
        self.start(
            node,
            "worker",
            node_id=node,
            work_dir=self.directory / node,
            media_root=self.media,
            output_root=self.outputs,
            **settings,
        )

    def kill(self, name: str) -> None:
        """Kill one process with SIGKILL and wait until it is gone."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> int:
        """Ask one process to stop, return its exit status; kill it when it takes too long."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def cpu_s(self, name: str) -> float:
        """Return the CPU seconds one process has used, without its children."""
        times = psutil.Process(self.processes[name].pid).cpu_times()
        return float(times.user + times.system)

    def log_of(self, name: str) -> str:
        """Return what a process has printed."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    async def submit(self, jobs: list[dict[str, Any]]) -> None:
        """Submit jobs in bulk; every one must be accepted."""
        for at in range(0, len(jobs), BULK_JOBS_MAX):
            body = msgspec.json.encode({"jobs": jobs[at : at + BULK_JOBS_MAX]})
            answer = await self.backbone.bus.request(subjects.API_SUBMIT_MANY, body, timeout_s=30)
            for reply in msgspec.json.decode(answer, type=Replies).results:
                assert reply.error is None, reply

    async def sql(self, sql: str, *, after_seq: int = 0) -> list[list[Any]]:
        """Return the rows of a query to the projector."""
        body = msgspec.json.encode(QueryRequest(sql=sql, after_seq=after_seq))
        answer = await self.backbone.bus.request(subjects.QUERY, body, timeout_s=15)
        result = msgspec.json.decode(answer, type=QueryResult)
        assert not result.error, result.error
        return [list(row) for row in result.rows]

    async def fact(
        self,
        kind: str,
        holds: Callable[[Recorded], bool] = lambda _: True,
        *,
        after: int = 0,
        within_s: float = 60,
    ) -> Recorded:
        """Return the first event of this type above `after` in the ledger of which it holds."""
        with anyio.move_on_after(within_s):
            async with self.backbone.ledger.follow(after=after) as batches:
                async for batch in batches:
                    for recorded in batch:
                        if recorded.type == kind and holds(recorded):
                            return recorded
        raise AssertionError(f"not within {within_s:g} s: {kind} above {after}")

    async def count(self, where: str) -> int:
        """Return how many jobs the projection has of which `where` holds."""
        return int((await self.sql(f"SELECT count(*) FROM jobs WHERE {where}"))[0][0])

    async def serving(self, subject: str, body: bytes = b"{}") -> None:
        """Wait until somebody answers on `subject`."""
        from services.errors import LogUnavailable  # noqa: PLC0415 - only here

        async def answered() -> bool:
            try:
                await self.backbone.bus.request(subject, body, timeout_s=1)
            except LogUnavailable:
                return False
            return True

        await until(answered, f"an answer on {subject}", within_s=30)

    async def registered(self, nodes: int) -> None:
        """Wait until so many nodes have registered, as the projection knows."""
        await self.eventually(
            lambda: self.sql("SELECT count(*) FROM nodes WHERE status = 'online'"),
            lambda rows: rows[0][0] == nodes,
            f"{nodes} nodes online",
        )

    async def eventually(
        self,
        read: Callable[[], Awaitable[Any]],
        holds: Callable[[Any], bool],
        what: str,
        within_s: float = 60,
    ) -> None:
        """Read again until it holds; outages meanwhile are waited out."""
        from services.errors import LogUnavailable  # noqa: PLC0415 - only here

        async def held() -> bool:
            try:
                return holds(await read())
            except LogUnavailable:
                return False

        await until(held, what, within_s=within_s)

    def close(self) -> None:
        """End what still runs."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@asynccontextmanager
async def fleet(directory: Path, *, durability: Durability = "100ms") -> AsyncGenerator[Fleet]:
    """Run a nats-server with the streams of a fleet, and nothing else yet."""
    (directory / "media").mkdir(parents=True, exist_ok=True)
    async with (
        nats_server(directory / "nats", durability=durability) as server,
        open_backbone(server.url, name="tests") as backbone,
    ):
        made = Fleet(server, backbone, directory)
        try:
            yield made
        finally:
            await anyio.to_thread.run_sync(made.close)
