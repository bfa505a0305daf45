"""Keeps the processes of one host alive: start in order, restart with back-off, drain in reverse.

A child that crashes is started again. One that was started wrongly is given up. One that may leave
(a worker that was drained) and has left in order, with status 0, stays away, and the others go on
without it; any other that ends, however orderly, is started again.

Every child has its own session, so that a Ctrl-C in the terminal reaches the supervisor alone, and
dies with it (Linux `PR_SET_PDEATHSIG`), so that a kill -9 of the supervisor leaves nothing behind.
"""

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.abc
from msgspec import Struct
from msgspec.structs import replace

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
"""The wait before a restart doubles from the first to this; so restarts are never given up."""
HEALTHY_S = 20.0
"""A child that ran so long starts again with the first back-off."""
ORDERLY_STATUS = 0
"""Exit status of a child that has left in order; one that may leave is not wanted back at once."""
USAGE_STATUS = 2
"""Exit status of a child that was started wrongly: no restart can heal it."""
LOG_BYTES_MAX = 8 * 1024 * 1024
"""A child's log is renamed to `….1` at this size; so it takes at most twice as much."""
TAIL_LINES_MAX = 10
LINE_BYTES_MAX = 2_000
"""Longer lines are cut in reports; the log has them whole."""
READ_BYTES = 65_536
LAST_WORDS_S = 0.5
"""How long the output of a dead child is read on, if something of it still holds the pipe."""

_TRAMPOLINE = """
import ctypes, os, signal, sys
ctypes.CDLL(None, use_errno=True).prctl(1, int(signal.SIGKILL), 0, 0, 0)
os.getppid() == int(sys.argv[1]) or os._exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Asks the kernel to be killed with the parent (prctl(2), PR_SET_PDEATHSIG = 1), checks that the
parent was not gone before that, and becomes the child. The request survives the exec."""


class ChildState(StrEnum):
    """What a child is doing."""

    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    DRAINING = "draining"
    STOPPED = "stopped"
    GIVEN_UP = "given up"


class ChildSpec(Struct, frozen=True, kw_only=True):
    """One process to keep alive."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = {}
    """Beside the supervisor's own."""
    again: str = ""
    """How a person starts it again when it has left in order; empty: it may not leave, and is
    started again however it ends."""
    drain_s: float = 10.0
    """How long it may take to leave after SIGTERM; then its whole group is killed."""


class ChildStatus(Struct, frozen=True, kw_only=True):
    """What is known of one child now."""

    name: str
    state: ChildState = ChildState.STARTING
    pid: int | None = None
    restarts: int = 0
    exit: str = ""
    """How it last ended, in words."""
    last_lines: tuple[str, ...] = ()
    """What it printed last before it ended."""
    retry_s: float = 0.0
    """How long until it is started again; only while backing off."""
    again: str = ""
    """How a person starts it again; only of one that has left by itself, in order."""


OnChange = Callable[[ChildStatus], None]


class Backoff(Struct, frozen=True, kw_only=True):
    """How fast a child that dies is started again."""

    first_s: float = BACKOFF_FIRST_S
    max_s: float = BACKOFF_MAX_S
    healthy_s: float = HEALTHY_S

    def after(self, crashes: int) -> float:
        """Return the wait after this many crashes in a row, in seconds."""
        doublings = min(crashes - 1, 32)
        return min(self.first_s * 2.0**doublings, self.max_s)


class Supervisor:
    """Keeps children of several stages; a stage starts after the ones before it."""

    def __init__(
        self,
        stages: Sequence[Sequence[ChildSpec]],
        *,
        log_dir: Path,
        on_change: OnChange,
        backoff: Backoff | None = None,
    ) -> None:
        pace = Backoff() if backoff is None else backoff
        self._stages = [
            [_Child(spec, log_dir / f"{spec.name}.log", on_change, pace) for spec in stage]
            for stage in stages
        ]
        self._stop = anyio.Event()

    def statuses(self) -> tuple[ChildStatus, ...]:
        """Return what every child does now, in the order of the stages."""
        return tuple(child.status for stage in self._stages for child in stage)

    async def run(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep all children until cancelled, then drain them in reverse order.

        Reports itself as started when every child has been started once.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._tend, task_status)
            try:
                await anyio.sleep_forever()
            finally:
                self._stop.set()

    async def _tend(self, task_status: anyio.abc.TaskStatus[None]) -> None:
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                for stage in self._stages:
                    for child in stage:
                        await tasks.start(child.keep)
                task_status.started()
                await self._stop.wait()
                for stage in reversed(self._stages):
                    await _drain(stage)


class RotatedLog:
    """A log file of bounded size: full, it takes the place of the one before."""

    def __init__(self, path: Path, *, bytes_max: int = LOG_BYTES_MAX) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._file: BinaryIO = path.open("ab", buffering=0)
        self._size = self._file.tell()

    def write(self, data: bytes) -> None:
        """Append `data`, after a rotation if it would not fit."""
        if self._size and self._size + len(data) > self._bytes_max:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("ab", buffering=0)
            self._size = 0
        self._file.write(data)
        self._size += len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Child:
    """One child through all its lives."""

    def __init__(self, spec: ChildSpec, log: Path, on_change: OnChange, backoff: Backoff) -> None:
        self.status = ChildStatus(name=spec.name)
        self._spec = spec
        self._log = log
        self._on_change = on_change
        self._backoff = backoff
        self._stopping = anyio.Event()
        self._ended = anyio.Event()
        self._process: anyio.abc.Process | None = None

    async def keep(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Run the child again and again until it is told to drain; started once it runs."""
        crashes = 0
        try:
            while not self._stopping.is_set():
                began_s = anyio.current_time()
                async with _opened(self._spec, self._log) as life:
                    self._enter(life.process)
                    if self.status.restarts == 0:
                        task_status.started()
                    code, lines = await life.end()
                    self._process = None
                lived_s = anyio.current_time() - began_s
                crashes = 1 if lived_s >= self._backoff.healthy_s else crashes + 1
                if self._stopping.is_set() or not await self._recover(code, lines, crashes):
                    break
        finally:
            self._ended.set()

    async def drain(self) -> None:
        """Ask the child to leave, wait for it, and kill its group when it takes too long."""
        self._stopping.set()
        if self._process is not None:
            self._change(state=ChildState.DRAINING)
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
        with anyio.move_on_after(self._spec.drain_s):
            await self._ended.wait()
        if self._process is not None:
            _kill_group(self._process.pid)
        await self._ended.wait()
        if self.status.state not in {ChildState.GIVEN_UP, ChildState.STOPPED}:
            self._change(state=ChildState.STOPPED, pid=None)

    def _enter(self, process: anyio.abc.Process) -> None:
        self._process = process
        self._change(state=ChildState.RUNNING, pid=process.pid)

    async def _recover(self, code: int, lines: tuple[str, ...], crashes: int) -> bool:
        """Report the end of a life; return whether there shall be another, after the back-off."""
        words = exit_words(code)
        again = self._spec.again
        if code == ORDERLY_STATUS and again:
            self._change(
                state=ChildState.STOPPED, pid=None, exit=words, last_lines=lines, again=again
            )
            return False
        if code == USAGE_STATUS:
            self._change(state=ChildState.GIVEN_UP, pid=None, exit=words, last_lines=lines)
            return False
        wait_s = self._backoff.after(crashes)
        self._change(
            state=ChildState.BACKING_OFF,
            pid=None,
            exit=words,
            last_lines=lines,
            retry_s=wait_s,
            restarts=self.status.restarts + 1,
        )
        with anyio.move_on_after(wait_s):
            await self._stopping.wait()
        return not self._stopping.is_set()

    def _change(self, **changes: object) -> None:
        self.status = replace(self.status, **{"retry_s": 0.0, "again": "", **changes})
        self._on_change(self.status)


def exit_words(code: int) -> str:
    """Return an exit status in words; negative is the signal that ended the process."""
    if code >= 0:
        return f"exit status {code}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


async def _drain(stage: Sequence[_Child]) -> None:
    async with anyio.create_task_group() as tasks:
        for child in stage:
            tasks.start_soon(child.drain)


class _Life:
    """One run of a child: its process, its log, and the pipe between."""

    def __init__(self, process: anyio.abc.Process, pipe: int, log: RotatedLog) -> None:
        self.process = process
        self._pipe = pipe
        self._log = log
        self._tail: deque[str] = deque(maxlen=TAIL_LINES_MAX)

    async def end(self) -> tuple[int, tuple[str, ...]]:
        """Wait for the end; return the exit status and the last lines. Nothing of it is left."""
        code = 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._copy)
            code = await self.process.wait()
            _kill_group(self.process.pid)
            tasks.cancel_scope.deadline = anyio.current_time() + LAST_WORDS_S
        return code, tuple(self._tail)

    async def _copy(self) -> None:
        rest = b""
        while True:
            await anyio.wait_readable(self._pipe)
            chunk = os.read(self._pipe, READ_BYTES)
            if not chunk:
                break
            self._log.write(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            self._tail.extend(_line(line) for line in lines)
            rest = rest[:LINE_BYTES_MAX]
        if rest:
            self._tail.append(_line(rest))


@asynccontextmanager
async def _opened(spec: ChildSpec, log_path: Path) -> AsyncGenerator[_Life]:
    """Start a child whose output comes through a pipe of our own.

    The event loop's own pipes would hold back the exit status while a grandchild keeps them open.
    """
    log = RotatedLog(log_path)
    pipe, inlet = os.pipe()
    try:
        try:
            process = await _start(spec, inlet)
        finally:
            os.close(inlet)
        yield _Life(process, pipe, log)
    finally:
        os.close(pipe)
        log.close()


async def _start(spec: ChildSpec, output: int) -> anyio.abc.Process:
    trampoline = (sys.executable, "-I", "-S", "-c", _TRAMPOLINE, str(os.getpid()))
    return await anyio.open_process(
        [*trampoline, *spec.argv],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**os.environ, **spec.environment},
        start_new_session=True,
    )


def _line(raw: bytes) -> str:
    return raw[:LINE_BYTES_MAX].decode("utf-8", "replace").rstrip("\r")


def _kill_group(pid: int) -> None:
    """Kill what is left of a child's session; nothing left is fine."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
