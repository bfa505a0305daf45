"""Waiting for what gives no signal: polled, with a deadline."""

import time
from collections.abc import Callable
from pathlib import Path

import anyio

DEADLINE_S = 20.0
POLL_S = 0.02


async def until(holds: Callable[[], bool], *, deadline_s: float = DEADLINE_S) -> None:
    """Return once `holds()` does. Raises TimeoutError after the deadline."""
    with anyio.fail_after(deadline_s):
        while not holds():  # noqa: ASYNC110 - other processes set no events
            await anyio.sleep(POLL_S)


async def outlast(seconds: float) -> None:
    """Let time pass that is itself what is tested: an outage, a pause."""
    await anyio.sleep(seconds)


def until_blocking(holds: Callable[[], bool], *, deadline_s: float = DEADLINE_S) -> None:
    """Return once `holds()` does. Raises TimeoutError after the deadline."""
    end_s = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > end_s:
            raise TimeoutError
        time.sleep(POLL_S)


def alive(pid: int) -> bool:
    """Tell whether the process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def says(path: Path, text: str) -> Callable[[], bool]:
    """Return whether the file has `text` in it, as something to wait for."""
    return lambda: path.exists() and text in path.read_text()
