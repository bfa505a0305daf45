"""A log in memory: the port's reference, and what whole-system simulations run on.

Bodies are kept encoded and decoded on every read, so the codec is exercised as on a real stream.
Every call passes a checkpoint before and after its effect: a scheduler with seeded dice interleaves
writers there, and a cancellation after the effect is a stored entry whose writer never learned.
"""

from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager

import anyio
from anyio.lowlevel import checkpoint

from events.codec import decode, encode
from events.subjects import Filter, Subject
from services.errors import Conflict, SequenceGap
from services.log.plan import checked_atomic, grouped
from services.log.port import Batch, Entry, Outcome


class MemoryLog:
    """An `EventLog` that lasts as long as its process."""

    def __init__(self, name: str = "memory", *, batch_max: int = 1_000) -> None:
        assert batch_max >= 1, batch_max
        self._name = name
        self._batch_max = batch_max
        self._stored: list[tuple[str, bytes]] = []
        self._seqs: dict[str, list[int]] = {}
        self._grown = anyio.Event()

    async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Append each entry by itself; see the port."""
        grouped(entries)
        await checkpoint()
        races: dict[str, Conflict | None] = {}
        outcomes: list[Outcome] = []
        for entry in entries:
            subject = entry.event.subject
            if subject not in races:
                races[subject] = self._conflict(subject, entry.expected)
            outcomes.append(races[subject] or self._store(subject, encode(entry.event)))
        self._tell()
        await checkpoint()
        return outcomes

    async def append_atomic(self, entries: Sequence[Entry]) -> int:
        """Append all entries or none; see the port."""
        checked_atomic(entries)
        await checkpoint()
        for entry in entries:
            conflict = self._conflict(entry.event.subject, entry.expected)
            if conflict is not None:
                raise conflict
        for entry in entries:
            self._store(entry.event.subject, encode(entry.event))
        self._tell()
        await checkpoint()
        return len(self._stored)

    async def read(self, subject: Subject, *, after: int = 0) -> Batch:
        """Return the events of one entity with sequences above `after`, in order."""
        await checkpoint()
        seqs = self._seqs.get(subject, [])
        return [
            decode(seq, subject, self._stored[seq - 1][1])
            for seq in seqs[bisect_right(seqs, after) :]
        ]

    async def last_seq(self) -> int:
        """Return the sequence of the last event; 0: it is empty."""
        await checkpoint()
        return len(self._stored)

    @asynccontextmanager
    async def follow(
        self,
        *,
        after: int,
        filters: Sequence[Filter] = (),
        live: bool = True,
        linger_s: float = 0.0,
    ) -> AsyncGenerator[AsyncIterator[Batch]]:
        """Iterate over batches of events above `after`; see the port."""
        await checkpoint()
        if after > len(self._stored):
            raise SequenceGap(self._name, len(self._stored) + 1, after)
        until = None if live else len(self._stored)
        events = self._batches(after, matcher(filters), until, linger_s=linger_s)
        async with aclosing(events) as batches:
            yield batches

    async def put(self, subject: str, body: bytes) -> int:
        """Store `body` as it is, as a stranger on the wire could; return its sequence."""
        await checkpoint()
        seq = self._store(subject, body)
        self._tell()
        return seq

    async def _batches(
        self,
        position: int,
        wanted: Callable[[str], bool],
        until: int | None,
        *,
        linger_s: float,
    ) -> AsyncGenerator[Batch]:
        while until is None or position < until:
            grown = self._grown
            batch, position = self._collect(position, wanted, until)
            if batch:
                await checkpoint()
                yield batch
                if linger_s and position == len(self._stored):
                    await anyio.sleep(linger_s)
            elif position == len(self._stored) and until is None:
                await grown.wait()

    def _collect(
        self, position: int, wanted: Callable[[str], bool], until: int | None
    ) -> tuple[Batch, int]:
        end = len(self._stored) if until is None else until
        batch: Batch = []
        while position < end and len(batch) < self._batch_max:
            subject, body = self._stored[position]
            position += 1
            if wanted(subject):
                batch.append(decode(position, subject, body))
        return batch, position

    def _conflict(self, subject: str, expected: int | None) -> Conflict | None:
        if expected is None:
            return None
        seqs = self._seqs.get(subject)
        current = seqs[-1] if seqs else 0
        return None if current == expected else Conflict(subject, current)

    def _store(self, subject: str, body: bytes) -> int:
        self._stored.append((subject, body))
        seq = len(self._stored)
        self._seqs.setdefault(subject, []).append(seq)
        return seq

    def _tell(self) -> None:
        self._grown.set()
        self._grown = anyio.Event()


def matcher(filters: Sequence[str]) -> Callable[[str], bool]:
    """Return a test whether a subject is selected by any of `filters`; none selects everything.

    `*` stands for one token, a final `>` for one or more; source: NATS, subject-based messaging.
    """
    if not filters:
        return lambda _: True
    exact = frozenset(each for each in filters if "*" not in each and ">" not in each)
    patterns = [each.split(".") for each in filters if each not in exact]
    if not patterns:
        return exact.__contains__

    def selected(subject: str) -> bool:
        tokens = subject.split(".")
        return subject in exact or any(_matches(pattern, tokens) for pattern in patterns)

    return selected


def _matches(pattern: list[str], tokens: list[str]) -> bool:
    if pattern[-1] == ">":
        pattern = pattern[:-1]
        if len(tokens) <= len(pattern):
            return False
        tokens = tokens[: len(pattern)]
    return len(pattern) == len(tokens) and all(
        want in ("*", got) for want, got in zip(pattern, tokens, strict=True)
    )
