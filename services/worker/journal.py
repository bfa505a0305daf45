"""What a worker must remember over its own death: its epoch, its attempts, and how they ended.

One small file each below the work directory, written before the attempt begins and removed when
nothing of it is left to do; beside it, written before the log is told, how the attempt ended. So a
worker that dies while the log is away tells the end when it is back, and an encode that was done is
not done again.

Only files of attempts in here are ever removed from the output root. Its other `….attempt-N` files
may belong to living workers of any node: a node whose work directory was lost leaves its own behind
for somebody to remove.
"""

import os
from datetime import datetime
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from events.ids import JobId
from events.job import AttemptFailed, Completed, JobFact
from services.worker.port import Work

_SUFFIX = ".json"
_ENDING_SUFFIX = ".ending"
_log = structlog.get_logger()


class Ending(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an attempt ended; one of the two is set."""

    completed: Completed | None = None
    failed: AttemptFailed | None = None

    @property
    def fact(self) -> Completed | AttemptFailed | None:
        """The fact that tells it."""
        return self.completed or self.failed


class Journal:
    """The work directory of one node; one worker at a time."""

    def __init__(self, work_dir: Path) -> None:
        self._epoch_file = work_dir / "epoch"
        self._attempts = work_dir / "attempts"
        self._attempts.mkdir(parents=True, exist_ok=True)

    def next_epoch(self, now: datetime, above: int = 0) -> int:
        """Return a number above `above` and that of every earlier start of this node.

        It is the time in seconds, or one more than the last: so it grows also when the work
        directory was lost, and when the clock was set back.
        """
        try:
            last = int(self._epoch_file.read_text())
        except (FileNotFoundError, ValueError):
            last = 0
        epoch = max(last + 1, above + 1, int(now.timestamp()))
        _replace(self._epoch_file, str(epoch).encode())
        return epoch

    def begin(self, work: Work) -> None:
        """Remember that files of this attempt may exist from now on."""
        _replace(self._path(work), msgspec.json.encode(work))

    def conclude(self, work: Work, fact: JobFact) -> None:
        """Remember how an attempt in the journal ended by itself, before the log is told.

        Without this a restart could not tell it, which costs no more than the attempt: so an error
        of the disk is logged, and the end is told as usual. Does nothing for any other attempt, or
        for an end that was asked for: the scheduler knows of it.
        """
        match fact:
            case Completed():
                ending = Ending(completed=fact)
            case AttemptFailed():
                ending = Ending(failed=fact)
            case _:
                return
        try:
            if self._path(work).exists():
                _replace(self._path(work, _ENDING_SUFFIX), msgspec.json.encode(ending))
        except OSError as error:
            _log.exception("journal.ending_not_kept", job=work.job, error=str(error))

    def ending(self, work: Work) -> Completed | AttemptFailed | None:
        """Return how the attempt ended; None: it had not, or it is not known."""
        try:
            content = self._path(work, _ENDING_SUFFIX).read_bytes()
            return msgspec.json.decode(content, type=Ending).fact
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def end(self, work: Work) -> None:
        """Forget the attempt: nothing of it is left to do.

        One that the disk does not let go of is logged; the next start looks at it once more.
        """
        try:
            self._path(work, _ENDING_SUFFIX).unlink(missing_ok=True)
            self._path(work).unlink(missing_ok=True)
        except OSError as error:
            _log.exception("journal.entry_not_removed", job=work.job, error=str(error))

    def unfinished(self) -> list[Work]:
        """Return the attempts that an earlier worker of this node has left."""
        found: list[Work] = []
        for path in sorted(self._attempts.glob(f"*{_SUFFIX}")):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=Work))
            except msgspec.DecodeError:
                path.unlink(missing_ok=True)  # torn by a crash before the attempt began
        return found

    def _path(self, work: Work, suffix: str = _SUFFIX) -> Path:
        return self._attempts / f"{JobId(work.job)}.{work.attempt}{suffix}"


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that after a crash it has the old content or the new, never a part."""
    draft = path.with_name(path.name + ".new")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
