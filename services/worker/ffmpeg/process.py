"""One child process from start to end; the only module that starts one.

- It leads a session and a process group of its own: what it starts ends with it.
- It dies with the worker. Linux's parent-death signal is set between fork and exec by `setpriv`
  (util-linux) where that is installed, else by a small Python launcher; never by a `preexec_fn`,
  which may deadlock where there are threads. The signal is bound to the *thread* that forked, so
  `run` forks in the event loop's own thread, which lives as long as the worker.
- CPU time is exact and of this child alone: `wait4` returns it as it reaps. So the event loop's
  own child watcher, which would reap first, is not used; a pidfd becomes readable at the end.
- Pipes are read without blocking, in pieces of `READ_BYTES`, and never hold the loop.

Source: pidfd_open(2), wait4(2), prctl(2) PR_SET_PDEATHSIG, setpriv(1).
"""

import codecs
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import IO, cast

import anyio
from anyio import lowlevel
from msgspec import Struct

from services.clock import Clock

READ_BYTES = 65_536
LINE_CHARS_MAX = 4_000
"""A longer line is cut."""
HEAD_LINES_MAX = 40
TAIL_LINES_MAX = 160
"""Of a process's words the first and the last are kept: causes come first or last."""
HARD_EXIT_S = 1.0
"""How long a process has to follow the hard exit before it is killed."""
DRAIN_S = 1.0
"""How long what a dead process has left in its pipes is read on."""
KILL_S = 10.0
"""How long the kernel has to end a killed process; more is a hung device."""
SIGNAL_GAP_S = 0.01
"""Between two signals; equal ones that are both pending would count as one."""
ENDED_POLL_S = 0.02
"""Between two looks whether a process has ended, where the kernel cannot tell when it does."""
QUIET: Mapping[str, str] = {"SVT_LOG": "1"}
"""Environment for every run: SVT-AV1 prints its settings past ffmpeg's log level otherwise."""
_LAUNCHER = (
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL)\n"
    "os.execv(sys.argv[1], sys.argv[1:])\n"
)

_POLITE = (signal.SIGTERM, signal.SIGCONT)
"""A stopped process has to go on before it can follow."""
_HARD = (signal.SIGTERM,) * 3

Feed = Callable[[bytes], None]


class Brake:
    """Stops one attempt's process where it is, and lets it go on; at any time, also between two."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._child: subprocess.Popen[bytes] | None = None
        self._off = anyio.Event()
        self._off.set()
        self._since_s = 0.0
        self._stopped_s = 0.0

    @property
    def pid(self) -> int | None:
        """The process that is stopped and let go; None: none runs now."""
        return None if self._child is None else self._child.pid

    @property
    def engaged(self) -> bool:
        """Whether nothing runs."""
        return not self._off.is_set()

    @property
    def stopped_s(self) -> float:
        """How long it was engaged in all, so far."""
        return self._stopped_s + (self._clock.monotonic_s() - self._since_s) * self.engaged

    def engage(self) -> None:
        """Stop the process's whole group, with SIGSTOP, which nothing can ignore."""
        if not self.engaged:
            self._off = anyio.Event()
            self._since_s = self._clock.monotonic_s()
            self._send(signal.SIGSTOP)

    def release(self) -> None:
        """Let it go on."""
        if self.engaged:
            self._stopped_s = self.stopped_s
            self._off.set()
            self._send(signal.SIGCONT)

    async def released(self) -> None:
        """Wait until it is not engaged."""
        while self.engaged:
            await self._off.wait()

    @contextmanager
    def holding(self, child: subprocess.Popen[bytes]) -> Generator[None]:
        """Let this be the process that is stopped."""
        self._child = child
        try:
            yield
        finally:
            self._child = None

    def _send(self, number: signal.Signals) -> None:
        if self._child is not None:
            _signal(self._child, number)


class Ended(Struct, frozen=True, kw_only=True):
    """How a process ended and what it took."""

    exit_status: int
    """As the shell counts; negative is the signal that ended it."""
    cpu_s: float
    """User and system time of the process and of the children it has waited for."""


class Words:
    """Splits a process's output into lines and keeps the first and the last of them."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""
        self._head: list[str] = []
        self._tail: deque[str] = deque(maxlen=TAIL_LINES_MAX)

    def feed(self, data: bytes) -> list[str]:
        """Take what has come and return the lines it completes; a carriage return ends one too."""
        text = self._rest + self._decode(data).replace("\r", "\n")
        *lines, self._rest = text.split("\n")
        self._rest = self._rest[:LINE_CHARS_MAX]
        return self._kept(lines)

    def rest(self) -> list[str]:
        """Return the line that was begun and never ended, if any."""
        lines, self._rest = [self._rest], ""
        return self._kept(lines)

    def lines(self) -> list[str]:
        """Return the first and the last lines."""
        return [*self._head, *self._tail]

    def _kept(self, lines: list[str]) -> list[str]:
        kept = [line[:LINE_CHARS_MAX] for line in lines if line.strip()]
        for line in kept:
            if len(self._head) < HEAD_LINES_MAX:
                self._head.append(line)
            else:
                self._tail.append(line)
        return kept


async def run(
    command: Sequence[str],
    *,
    stdout: Feed,
    stderr: Feed,
    grace_s: float,
    brake: Brake | None = None,
) -> Ended:
    """Run `command` (its first word an absolute path) to its end, feeding what it prints.

    Cancelling ends it: SIGTERM, `grace_s` later the hard exit (three more SIGTERM, on which ffmpeg
    stops at once), `HARD_EXIT_S` later SIGKILL for its group; it is gone and reaped before the
    cancellation leaves. The feeds must not block. While `brake` is engaged it is not begun,
    and stands still. Raises OSError when it cannot be started.
    """
    if brake is not None:
        await brake.released()
    child = _spawn(command)
    try:
        try:
            with nullcontext() if brake is None else brake.holding(child):
                await _follow(child, stdout, stderr)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await _end(child, grace_s)
            raise
        return _reap(child)
    finally:
        for pipe in _pipes(child):
            pipe.close()


async def output_of(
    command: Sequence[str], *, timeout_s: float, bytes_max: int
) -> tuple[int, bytes, list[str]]:
    """Run a short command; return its exit status, the head of its stdout, its stderr's lines.

    Raises TimeoutError after `timeout_s`, OSError when it cannot be started.
    """
    head = bytearray()
    words = Words()

    def keep(data: bytes) -> None:
        head.extend(data[: bytes_max - len(head)])

    def listen(data: bytes) -> None:
        words.feed(data)

    ended: Ended | None = None
    with anyio.move_on_after(timeout_s):
        ended = await run(command, stdout=keep, stderr=listen, grace_s=0.0)
    if ended is None:
        raise TimeoutError(f"{command[0]} had not ended after {timeout_s:g} s")
    words.rest()
    return ended.exit_status, bytes(head), words.lines()


@cache
def bound_to_this_process() -> tuple[str, ...]:
    """Return the words before a command that make it die with the thread that starts it."""
    if sys.platform != "linux":
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is not None:
        command = [setpriv, "--pdeathsig", "KILL", "--", "/bin/true"]
        tried = subprocess.run(  # noqa: S603 - fixed words; BusyBox's setpriv lacks the option
            command, check=False, capture_output=True, timeout=KILL_S
        )
        if tried.returncode == 0:
            return (setpriv, "--pdeathsig", "KILL", "--")
    return (sys.executable, "-I", "-S", "-c", _LAUNCHER)


def _spawn(command: Sequence[str]) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(  # noqa: S603 - the words are the caller's typed arguments
        [*bound_to_this_process(), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
        env={**os.environ, **QUIET},
    )
    for pipe in _pipes(child):
        os.set_blocking(pipe.fileno(), False)
    return child


def _pipes(child: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    return cast(IO[bytes], child.stdout), cast(IO[bytes], child.stderr)


async def _follow(child: subprocess.Popen[bytes], stdout: Feed, stderr: Feed) -> None:
    """Feed the child's output until it has ended; what it started ends with it."""
    out, err = _pipes(child)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_pump, out.fileno(), stdout)
        tasks.start_soon(_pump, err.fileno(), stderr)
        await _ended(child.pid)
        _signal(child, signal.SIGKILL)
        # a stranger that kept the pipes open must not keep the attempt open
        tasks.cancel_scope.deadline = anyio.current_time() + DRAIN_S


async def _pump(handle: int, feed: Feed) -> None:
    while True:
        try:
            data = os.read(handle, READ_BYTES)
        except BlockingIOError:
            await anyio.wait_readable(handle)
            continue
        if not data:
            return
        feed(data)
        await lowlevel.checkpoint()


async def _ended(pid: int) -> None:
    """Wait until the child has ended, without reaping it."""
    handle = _pidfd(pid)
    if handle is None:
        while not _has_ended(pid):  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(ENDED_POLL_S)
        return
    try:
        await anyio.wait_readable(handle)
    finally:
        os.close(handle)


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _pidfd(pid: int) -> int | None:
    """Return a descriptor that tells the end of a child; None: there is none to be had.

    So it is on other systems, and when this process has as many files open as it may: a child
    that runs must be ended all the same.
    """
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


async def _end(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """End the child by the ladder and reap it; its output is read on, so that it cannot block."""
    out, err = _pipes(child)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_pump, out.fileno(), _forget)
        tasks.start_soon(_pump, err.fileno(), _forget)
        await _descend(child, grace_s)
        tasks.cancel_scope.cancel()
    _reap(child)


async def _descend(child: subprocess.Popen[bytes], grace_s: float) -> None:
    rungs = ((_POLITE, grace_s), (_HARD, HARD_EXIT_S), ((signal.SIGKILL,), KILL_S))
    for signals, patience_s in rungs:
        for number in signals:
            _signal(child, number)
            await anyio.sleep(SIGNAL_GAP_S)
        with anyio.move_on_after(patience_s):
            await _ended(child.pid)
            break
    _signal(child, signal.SIGKILL)


def _forget(_: bytes) -> None:
    """Take output nobody wants."""


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send to the child's group; it is not reaped yet, so its number cannot be another's."""
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        return  # nobody is left in the group
    except PermissionError:
        return  # macOS answers so for a group of zombies


def _reap(child: subprocess.Popen[bytes]) -> Ended:
    """Take the child's end from the kernel; one that even SIGKILL has not ended stays behind."""
    _, status, usage = os.wait4(child.pid, os.WNOHANG)
    exit_status = os.waitstatus_to_exitcode(status)
    child.returncode = exit_status  # tells Popen that there is nothing left to wait for
    return Ended(exit_status=exit_status, cpu_s=usage.ru_utime + usage.ru_stime)
