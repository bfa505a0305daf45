"""Output of processes that the log did not take, on disk: bounded, in order, over restarts.

SQLite, for it ships with Python and gives just what is wanted: many small rows appended in one
write, the oldest removed first, a count by attempt, and a file that is whole after a kill -9 at any
instant. In WAL mode without a sync for each write; a loss of power may cost the last of it. The
file is removed when it is empty, so it never takes more than what waits. Everything blocks: call it
in a thread, one call at a time.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import structlog
from msgspec import Struct
from msgspec.structs import replace

from events.codec import Event, decode, encode
from events.subjects import Subject
from events.telemetry import LogChunk, OutputStream

SPOOL_FILE = "spool.sqlite"
HEAD_MAX = 200
"""Most events handed out at once."""
HEAD_BYTES_MAX = 4 * 2**20
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS chunk (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, subject TEXT NOT NULL, body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS chunk_subject ON chunk (subject);
CREATE TABLE IF NOT EXISTS lost (
    subject TEXT PRIMARY KEY, lines INTEGER NOT NULL, body BLOB NOT NULL
);
"""
_log = structlog.get_logger()


class Head(Struct, frozen=True):
    """The first events that wait."""

    events: list[Event]
    until: int
    """The place of the last one."""
    markers: list[tuple[str, bytes]]
    """What was told of lines that are lost, by attempt."""


class Spool:
    """The events of one worker that wait for the log."""

    def __init__(self, work_dir: Path, bytes_max: int) -> None:
        self._path = work_dir / SPOOL_FILE
        self._bytes_max = bytes_max
        self._database: sqlite3.Connection | None = None
        self._bytes = 0
        self._waiting: set[str] = set()
        if self._path.exists():
            self._recover()

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    def holds(self, subject: Subject) -> bool:
        """Tell whether something of this attempt waits: what follows has to wait behind it."""
        return subject in self._waiting

    def add(self, events: Iterable[Event]) -> None:
        """Keep events behind those that wait; beyond the limit the oldest go and are counted.

        One that waits already changes nothing. What the disk does not take is lost, and logged.
        """
        rows = [(event.id, event.subject, encode(event)) for event in events]
        try:
            with self._opened() as database:
                database.executemany(
                    "INSERT OR IGNORE INTO chunk (id, subject, body) VALUES (?, ?, ?)", rows
                )
            self._waiting.update(subject for _, subject, _ in rows)
            self._bytes += sum(len(body) for _, _, body in rows)
            self._trim()
        except sqlite3.Error as error:
            _log.exception("spool.lost", chunks=len(rows), error=str(error))
            if self.empty:
                self._unlink()  # whatever is wrong with the file, nobody needs it

    def head(self) -> Head:
        """Return the first that wait, after a marker for each attempt that has lost some."""
        try:
            return self._head()
        except sqlite3.Error as error:
            self._give_up(error)
            return Head([], 0, [])

    def remove(self, head: Head) -> None:
        """Forget what `head` gave: it is in the log."""
        try:
            self._remove(head)
        except sqlite3.Error as error:
            self._give_up(error)
        if self.empty:
            self._unlink()

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            # one call at a time, but not always in the same thread
            database = sqlite3.connect(self._path, check_same_thread=False)
            try:
                database.executescript(_SCHEMA)
            except sqlite3.Error:
                database.close()
                raise
            self._database = database
        return self._database

    def _recover(self) -> None:
        """Take over what an earlier worker has left."""
        try:
            self._opened()
            self._count()
        except sqlite3.Error as error:
            self._give_up(error)

    def _give_up(self, error: sqlite3.Error) -> None:
        """Begin anew: what waits cannot be read, and shall keep no worker from its work."""
        _log.exception("spool.unreadable", path=str(self._path), error=str(error))
        self._waiting.clear()
        self._bytes = 0
        self._unlink()

    def _unlink(self) -> None:
        self.close()
        try:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(SPOOL_FILE + suffix).unlink(missing_ok=True)
        except OSError as error:
            _log.exception("spool.not_removed", path=str(self._path), error=str(error))

    def _head(self) -> Head:
        with closing(self._opened().cursor()) as cursor:
            query = "SELECT subject, body FROM lost ORDER BY subject"
            markers: list[tuple[str, bytes]] = cursor.execute(query).fetchall()
            found, until, taken = list(markers), 0, 0
            query = "SELECT number, subject, body FROM chunk ORDER BY number LIMIT ?"
            for number, subject, body in cursor.execute(query, (HEAD_MAX,)):
                taken += len(body)
                if until and taken > HEAD_BYTES_MAX:
                    break
                found.append((subject, body))
                until = number
        events = [event for subject, body in found if (event := _event(subject, body)) is not None]
        return Head(events, until, markers)

    def _remove(self, head: Head) -> None:
        database = self._opened()
        with database:
            database.execute("DELETE FROM chunk WHERE number <= ?", (head.until,))
            database.executemany("DELETE FROM lost WHERE subject = ? AND body = ?", head.markers)
        self._count()

    def _count(self) -> None:
        with closing(self._opened().cursor()) as cursor:
            query = "SELECT subject FROM chunk UNION SELECT subject FROM lost"
            self._waiting = {subject for (subject,) in cursor.execute(query)}
            query = "SELECT coalesce(sum(length(body)), 0) FROM chunk"
            (self._bytes,) = cursor.execute(query).fetchone()

    def _trim(self) -> None:
        """Drop the oldest until what waits is within the limit."""
        database = self._opened()
        with database:
            while self._bytes > self._bytes_max:
                row = database.execute(
                    "SELECT number, subject, body FROM chunk ORDER BY number LIMIT 1"
                ).fetchone()
                if row is None:
                    self._bytes = 0
                    break
                number, subject, body = row
                database.execute("DELETE FROM chunk WHERE number = ?", (number,))
                self._bytes -= len(body)
                self._mark(database, subject, body)

    def _mark(self, database: sqlite3.Connection, subject: str, body: bytes) -> None:
        """Count the lines of a chunk that is dropped; its envelope becomes the marker's."""
        event = _event(subject, body)
        if event is None or not isinstance(event.data, LogChunk):
            return
        row = database.execute("SELECT lines FROM lost WHERE subject = ?", (subject,)).fetchone()
        lines = len(event.data.lines) + (row[0] if row else 0)
        words = f"[{lines} lines lost: the log was away, and the spool of this node is full]"
        chunk = replace(event.data, stream=OutputStream.WORKER, lines=(words,))
        marker = encode(replace(event, data=chunk))
        database.execute("INSERT OR REPLACE INTO lost VALUES (?, ?, ?)", (subject, lines, marker))


def _event(subject: str, body: bytes) -> Event | None:
    """Return a stored event as it was; None: this version cannot read it."""
    recorded = decode(0, subject, body)
    if not isinstance(recorded.fact, LogChunk):
        return None
    return Event(
        id=recorded.id,
        source=recorded.source,
        type=recorded.type,
        time=recorded.time,
        subject=recorded.subject,
        data=recorded.fact,
    )
