"""The one writer: a batch of events becomes rows, and the position moves, in one transaction.

No keys and no indexes: DuckDB scans text keys, and its indexes have lost rows. One writer, one row
a key in a batch, delete and insert by the job's number are what keeps the tables exact.
"""

import contextlib
from collections.abc import Generator, Sequence
from datetime import datetime
from pathlib import Path

import duckdb
from msgspec.structs import astuple

from events.codec import Recorded
from projections.errors import OutOfOrder
from projections.fold.jobs import HotJob, Stored
from projections.fold.nodes import sealed
from projections.fold.rows import (
    AUDIT_COLUMNS,
    HEARTBEAT_COLUMNS,
    PARKED_COLUMNS,
    PROGRESS_COLUMNS,
    AttemptRow,
    JobRow,
    NodeRow,
    Row,
    micros,
)
from projections.fold.world import Changes, World
from projections.storage.arrow import Inlet
from projections.storage.database import Database
from projections.storage.resume import SETTLED_SQL, recall, resume

LEDGER = "ledger"
TELEMETRY = "telemetry"
MEMORY_BYTES_MAX = 2 * 2**30

SWEEP_JOBS = 5_000
"""Jobs that are over move to their own table when there are this many of them."""
_TARGETS: dict[str, tuple[str, ...]] = {
    "audit": AUDIT_COLUMNS,
    "parked": PARKED_COLUMNS,
    "heartbeats": HEARTBEAT_COLUMNS,
    "progress": PROGRESS_COLUMNS,
    "jobs_hot": JobRow.__struct_fields__,
    "attempts_ended": AttemptRow.__struct_fields__,
    "nodes": NodeRow.__struct_fields__,
}
_EXPIRING = ("heartbeats WHERE", "progress WHERE", "parked WHERE stream = 'telemetry' AND")
_DROPS = {"jobs_hot": "job_no", "jobs_cold": "job_no", "nodes": "node_id"}


class Store:
    """One projection file and what its next event needs in memory; one thread at a time.

    A file of another version is set aside and an empty one made; `anew` does so with any.
    Raises StoreBusy when another process owns the file, StoreUnusable when it cannot be opened.
    """

    def __init__(
        self, path: Path, *, memory_bytes_max: int = MEMORY_BYTES_MAX, anew: bool = False
    ) -> None:
        self._database = Database(path, memory_bytes_max=memory_bytes_max, anew=anew)
        self._connection = self._database.connection
        self._inlets: dict[str, Inlet] = {}
        self._prepare()
        self._world: World | None = None
        self._unswept = 0
        self._positions = self._read_positions()

    @property
    def position(self) -> int:
        """Sequence of the last ledger event in the tables; 0: none."""
        return self._positions[LEDGER]

    @property
    def telemetry_position(self) -> int:
        """Sequence of the last telemetry event in the tables; 0: none."""
        return self._positions[TELEMETRY]

    @property
    def fresh(self) -> bool:
        """Whether the file was made by this opening: there was none, or none that fits."""
        return self._database.fresh

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection of its own to the same file, for readers in other threads."""
        return self._connection.cursor()

    def apply(self, batch: Sequence[Recorded]) -> int:
        """Write a batch of the ledger, all or nothing; return the position after it.

        Raises OutOfOrder when it does not follow, without a hole, what is stored; whatever it
        raises, nothing of the batch is written.
        """
        if not batch:
            return self.position
        before = self.position
        for expected, recorded in enumerate(batch, before + 1):
            if recorded.seq != expected:
                raise OutOfOrder(LEDGER, expected, recorded.seq)
        with self._moving(LEDGER, before, batch[-1].seq) as world:
            missing = world.missing(batch)
            if missing:
                recall(self._connection, world, missing)
            changes = world.ledger(batch)
            self._write_ledger(changes)
        _settle(world, changes)
        for subject in missing:
            world.release(subject)
        return self.position

    def apply_telemetry(self, batch: Sequence[Recorded]) -> int:
        """Write a batch of telemetry, all or nothing; return the position after it.

        Telemetry expires, so its sequences may have holes; they only grow, else OutOfOrder.
        """
        if not batch:
            return self.telemetry_position
        before = last = self.telemetry_position
        for recorded in batch:
            if recorded.seq <= last:
                raise OutOfOrder(TELEMETRY, last + 1, recorded.seq)
            last = recorded.seq
        with self._moving(TELEMETRY, before, last) as world:
            changes = world.telemetry(batch)
            self._put("heartbeats", changes.heartbeats)
            self._put("progress", changes.progress)
            self._write_shared(changes)
        _settle(world, changes)
        return self.telemetry_position

    def restart_telemetry(self) -> None:
        """Read telemetry from its beginning: the stream was made anew."""
        self._connection.execute("UPDATE position SET seq = 0 WHERE stream = 'telemetry'")
        self._positions[TELEMETRY] = 0

    def expire(self, before: datetime) -> None:
        """Delete telemetry that was measured before this instant."""
        cut = micros(before)
        self._connection.begin()
        with self._rolled_back():
            for what in _EXPIRING:
                delete = f"DELETE FROM {what} time < make_timestamptz(?)"  # noqa: S608 - our names
                self._connection.execute(delete, [cut])
            self._connection.commit()

    def load(self) -> None:
        """Bring into memory what the next event may change, unless it is there."""
        if self._world is None:
            self._world = resume(self._connection)

    def checkpoint(self) -> bool:
        """Fold the write-ahead log into the file, for when there is nothing else to do.

        False: it was interrupted, and is made up for by the next one.
        """
        try:
            self._connection.execute("CHECKPOINT")
        except duckdb.InterruptException:
            return False
        return True

    def interrupt(self) -> None:
        """Stop what another thread does here; its call raises."""
        self._connection.interrupt()

    def close(self) -> None:
        """Close the file; another process may open it then."""
        for name in self._inlets:
            self._connection.unregister(name)
        self._inlets.clear()
        self._database.close()

    def _prepare(self) -> None:
        """Prepare the statements of a batch; preparing them once halves what a small one costs."""
        for table, columns in _TARGETS.items():
            listed = ", ".join(columns)
            self._register(f"in_{table}", table, columns)
            source = f"SELECT {listed} FROM in_{table}"  # noqa: S608 - our own names
            put = f"INSERT INTO {table} ({listed}) {source}"
            self._connection.execute(f"PREPARE put_{table} AS {put}")
        for table, key in _DROPS.items():
            self._register(f"drop_{table}", table, (key,))
            keys = f"SELECT {key} FROM drop_{table}"  # noqa: S608 - our own names
            drop = f"DELETE FROM {table} WHERE {key} IN ({keys})"  # noqa: S608 - our own names
            self._connection.execute(f"PREPARE drop_{table} AS {drop}")
        self._connection.execute(
            "PREPARE move AS UPDATE position SET seq = $3 WHERE stream = $1 AND seq = $2"
        )

    def _register(self, name: str, table: str, columns: tuple[str, ...]) -> None:
        inlet = Inlet(self._connection, table, columns)
        self._connection.register(name, inlet)
        self._inlets[name] = inlet

    def _read_positions(self) -> dict[str, int]:
        found = self._connection.execute("SELECT stream, seq FROM position").fetchall()
        return {str(stream): int(seq) for stream, seq in found}

    @contextlib.contextmanager
    def _moving(self, stream: str, before: int, after: int) -> Generator[World]:
        """Run one transaction that moves the position from `before` to `after`.

        If it fails, what is in memory may be ahead of the file, so it is given up and read again.
        """
        self.load()
        world, self._world = self._world, None
        assert world is not None
        self._connection.begin()
        with self._rolled_back():
            yield world
            move = f"EXECUTE move('{stream}', {before:d}, {after:d})"
            moved = self._connection.execute(move).fetchall()
            if moved != [(1,)]:
                raise OutOfOrder(stream, self._read_positions()[stream] + 1, before + 1)
            self._connection.commit()
        self._positions[stream] = after
        self._world = world

    @contextlib.contextmanager
    def _rolled_back(self) -> Generator[None]:
        try:
            yield
        except BaseException:
            # What went wrong is told by the error on its way; a transaction that is gone already
            # has nothing to roll back.
            with contextlib.suppress(duckdb.Error):
                self._connection.rollback()
            raise

    def _write_ledger(self, changes: Changes) -> None:
        self._put("audit", changes.audit)
        self._put("attempts_ended", [astuple(row) for row in changes.attempts])
        self._write_shared(changes)

    def _write_shared(self, changes: Changes) -> None:
        """Write what facts and reports both change."""
        self._write_jobs(list(changes.jobs.values()))
        known = [node for node in changes.nodes.values() if node.stored]
        self._drop("nodes", [(node.row.node_id,) for node in known])
        self._put("nodes", [astuple(sealed(node)) for node in changes.nodes.values()])
        self._put("parked", changes.parked)

    def _write_jobs(self, jobs: list[HotJob]) -> None:
        for stored, table in ((Stored.HOT, "jobs_hot"), (Stored.COLD, "jobs_cold")):
            self._drop(table, [(job.row.job_no,) for job in jobs if job.stored is stored])
        self._put("jobs_hot", [astuple(job.row) for job in jobs])
        self._unswept += sum(job.settled for job in jobs)
        if self._unswept >= SWEEP_JOBS:
            self._sweep()

    def _sweep(self) -> None:
        """Move jobs that are over to where they do not slow down the others."""
        self._connection.execute(f"INSERT INTO jobs_cold FROM jobs_hot WHERE {SETTLED_SQL}")
        delete = f"DELETE FROM jobs_hot WHERE {SETTLED_SQL}"  # noqa: S608 - a constant
        self._connection.execute(delete)
        self._unswept = 0

    def _put(self, table: str, rows: Sequence[Row]) -> None:
        self._execute(f"in_{table}", f"EXECUTE put_{table}", rows)

    def _drop(self, table: str, keys: Sequence[Row]) -> None:
        self._execute(f"drop_{table}", f"EXECUTE drop_{table}", keys)

    def _execute(self, inlet: str, statement: str, rows: Sequence[Row]) -> None:
        if rows:
            self._inlets[inlet].fill(rows)
            self._connection.execute(statement)


def _settle(world: World, changes: Changes) -> None:
    """Remember where rows lie now, and let go of jobs that are over."""
    for node in changes.nodes.values():
        node.stored = True
    for subject, job in changes.jobs.items():
        if job.settled:
            world.settle(subject)
        else:
            job.stored = Stored.HOT
