"""Where an attempt reads and writes: below its roots, whatever links lie there.

A path is checked as it is when the attempt begins and handed to ffmpeg resolved. Somebody who may
write below a root could still swap a directory for a link afterwards; roots belong to the fleet.
All of this blocks: call it in a thread.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from events.ids import JobId
from services.worker.ffmpeg.encoders import Unusable
from services.worker.ffmpeg.plan import Rendition

NAME_BYTES_MAX = 255
"""Longest file name of every file system in use."""


class Place(Struct, frozen=True, kw_only=True):
    """Where one rendition is written and what it will be called."""

    final: Path
    attempt: Path


def find_input(root: Path, given: str) -> Path:
    """Return the regular file `given` names below `root`; raises Unusable for anything else."""
    path = _confined(root, Path(given), f"input {given!r}")
    if not path.exists():
        raise Unusable(f"input {given!r}: no such file below {root}")
    if path.is_dir():
        raise Unusable(f"input {given!r} is a directory; give a file")
    if not path.is_file():
        raise Unusable(f"input {given!r} is a device or a pipe; give a regular file")
    return path


def place(root: Path, rendition: Rendition, *, job: JobId, attempt: int) -> Place:
    """Return where `rendition` goes below `root`; creates nothing.

    The attempt's name holds job and attempt, so that no two attempts ever write to one file, and
    keeps the extension. Raises Unusable when it leads out of `root` or cannot be a file name.
    """
    given = f"output {rendition.path!r}"
    below = Path(rendition.path)
    final = _confined(root, below.parent, given) / below.name
    name = f"{final.name}.{job}.attempt-{attempt}{final.suffix}"
    if len(os.fsencode(name)) > NAME_BYTES_MAX:
        spare = NAME_BYTES_MAX - len(os.fsencode(name)) + len(os.fsencode(final.name))
        raise Unusable(f"{given}: the file name is too long; allowed: {spare} bytes")
    return Place(final=final, attempt=final.with_name(name))


def prepare(root: Path, places: Sequence[Place]) -> None:
    """Create the directories of `places` and remove what an earlier run of the attempt has left.

    Raises Unusable when a place is taken by something that is no file, or two places are one;
    OSError when the file system refuses.
    """
    if len({place.final for place in places}) < len(places):
        raise Unusable("two outputs are the same file by way of a link; give each its own name")
    for place_ in places:
        try:
            place_.final.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise Unusable(f"output {place_.final}: a file stands where its directory goes") from (
                error
            )
        _confined(root, place_.final.parent, f"output {place_.final}")
        if place_.final.is_dir():
            raise Unusable(f"output {place_.final} is a directory; give another file name")
        place_.attempt.unlink(missing_ok=True)


def seal(path: Path) -> int:
    """Make the file at `path` survive a power failure; return its size in bytes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    _sync_directory(path.parent)
    return size


def promote(place_: Place) -> None:
    """Give the attempt's file its final name, over an older file of that name, for good.

    Does nothing when it has been done. Raises FileNotFoundError when neither file is there.
    """
    try:
        place_.attempt.replace(place_.final)
    except FileNotFoundError:
        if not place_.final.exists():
            raise
    _sync_directory(place_.final.parent)


def discard(places: Sequence[Place]) -> None:
    """Remove the attempt's files that are there."""
    for place_ in places:
        if os.path.lexists(place_.attempt):
            place_.attempt.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _confined(root: Path, below: Path, given: str) -> Path:
    """Return `below` resolved; raises Unusable when links or `..` lead it out of `root`."""
    top = root.resolve()
    try:
        path = (top / below).resolve()
    except (RuntimeError, OSError) as error:  # a loop of links; a name too long
        raise Unusable(f"{given} cannot be resolved: {error}") from error
    if not path.is_relative_to(top):
        raise Unusable(f"{given} leads out of {root}; allowed: what is below it")
    return path
