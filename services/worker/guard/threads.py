"""Calls into a file system that may hang in the kernel, each in a thread that can be left behind.

A thread that waits for a dead file server cannot be ended. Who waits for it can be: it stops
waiting, the thread stays until the server answers or the process ends, which it does not hold up.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar, cast

import anyio
from anyio import from_thread, lowlevel

T = TypeVar("T")


class Threads:
    """Makes calls that block, without holding the loop, and leaves at most so many behind."""

    def __init__(self, left_max: int) -> None:
        self._left_max = left_max
        self._left = 0

    @property
    def exhausted(self) -> bool:
        """Whether so many calls hang that no more are made."""
        return self._left >= self._left_max

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call` returns; cancelling leaves it to itself, at once.

        Raises what it raises, and TimeoutError when too many earlier ones hang.
        """
        if self.exhausted:
            raise TimeoutError(f"{self._left} calls hang in the file system; no more are made")
        one = _Call(call)
        threading.Thread(
            target=one.make, args=(lowlevel.current_token(),), name="file system", daemon=True
        ).start()
        try:
            await one.made.wait()
        finally:
            if not one.made.is_set():
                self._left += 1
                one.then = self._returned
        return one.result()

    def _returned(self) -> None:
        self._left -= 1


class _Call(Generic[T]):
    """One call; all but `make` belongs to the loop's thread."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._value: T | None = None
        self._error: BaseException | None = None
        self.made = anyio.Event()
        self.then: Callable[[], None] | None = None
        """Called when it has returned though nobody waits for it."""

    def make(self, loop: lowlevel.EventLoopToken) -> None:
        """Make the call, in its own thread, and say so in the loop's."""
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001 - kept for who waits, and raised there
            self._error = error
        with suppress(RuntimeError):  # the loop has ended: nobody waits
            from_thread.run_sync(self._end, token=loop)

    def result(self) -> T:
        """Return what was returned; raise what was raised."""
        if self._error is not None:
            raise self._error
        return cast(T, self._value)

    def _end(self) -> None:
        self.made.set()
        if self.then is not None:
            self.then()
