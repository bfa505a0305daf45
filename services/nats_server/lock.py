"""One owner a directory: a lock that names its holder, and that child processes can inherit."""

import fcntl
import os
from pathlib import Path
from typing import IO

import anyio

from services.errors import ConfigurationError

SHUTDOWN_S_MAX = 10.0
"""How long a dead owner's server may hold on to the lock."""
CHECK_S = 0.01


async def locked(path: Path) -> IO[str]:
    """Return the open lock file; it names its owner. Raises ConfigurationError when it is taken."""
    file = path.open("a+")
    try:
        await _lock(file, path)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


async def _lock(file: IO[str], path: Path) -> None:
    with anyio.move_on_after(SHUTDOWN_S_MAX):
        while not _try_lock(file):
            owner = _owner(path)
            if owner is None or _lives(owner):
                break
            # The owner was killed, and its server is still shutting down.
            await anyio.sleep(CHECK_S)
        else:
            return
    raise ConfigurationError(
        f"{path.parent} is in use by process {_owner(path)}; stop it, or choose another directory"
    )


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(path: Path) -> int | None:
    text = path.read_text()
    return int(text) if text.isdigit() else None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
