"""What a worker must remember over its own death: its epoch, and which attempts it had begun.

One small file each below the work directory, written before the attempt begins and removed when
nothing of it is left to do.
"""

import os
from datetime import datetime
from pathlib import Path

import msgspec

from events.ids import JobId
from services.worker.port import Work

_SUFFIX = ".json"


class Journal:
    """The work directory of one node; one worker at a time."""

    def __init__(self, work_dir: Path) -> None:
        self._epoch_file = work_dir / "epoch"
        self._attempts = work_dir / "attempts"
        self._attempts.mkdir(parents=True, exist_ok=True)

    def next_epoch(self, now: datetime) -> int:
        """Return a number above that of every earlier start of this node.

        It is the time in seconds, or one more than the last: so it grows also when the work
        directory was lost, and when the clock was set back.
        """
        try:
            last = int(self._epoch_file.read_text())
        except (FileNotFoundError, ValueError):
            last = 0
        epoch = max(last + 1, int(now.timestamp()))
        _replace(self._epoch_file, str(epoch).encode())
        return epoch

    def begin(self, work: Work) -> None:
        """Remember that files of this attempt may exist from now on."""
        _replace(self._path(work), msgspec.json.encode(work))

    def end(self, work: Work) -> None:
        """Forget the attempt: nothing of it is left to do."""
        self._path(work).unlink(missing_ok=True)

    def unfinished(self) -> list[Work]:
        """Return the attempts that an earlier worker of this node has left."""
        found: list[Work] = []
        for path in sorted(self._attempts.glob(f"*{_SUFFIX}")):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=Work))
            except msgspec.DecodeError:
                path.unlink(missing_ok=True)  # torn by a crash before the attempt began
        return found

    def _path(self, work: Work) -> Path:
        return self._attempts / f"{JobId(work.job)}.{work.attempt}{_SUFFIX}"


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that after a crash it has the old content or the new, never a part."""
    draft = path.with_name(path.name + ".new")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
