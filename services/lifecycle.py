"""The frame of every long-running process: signals in, an ordered end, a status out.

The first SIGTERM, SIGINT or SIGHUP cancels the service, which then drains; a second one, or a drain
that takes longer than agreed, ends the process at once.
"""

import gc
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TextIO, TypeVar

import anyio
import anyio.abc
import structlog

from services.errors import ConfigurationError

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
DRAIN_MARGIN_S = 5.0
"""Beyond its own drain time a service may take this long, then the kernel ends it."""
GC_THRESHOLDS = (100_000, 20, 100)
"""Cyclic garbage is rare here and states are many: with Python's own thresholds, folding 100,000
jobs spent 38 % of its time in the collector and stood still for 130 ms at once."""
T = TypeVar("T")

LOG_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def run_until_signalled(main: Callable[[], Awaitable[None]], *, drain_s: float) -> None:
    """Run `main` to its end or to a signal; it has `drain_s` seconds to leave after one.

    Returns when `main` has returned or has drained; what it raises passes through.
    """
    serve_until_signalled(_nothing, lambda _: main(), drain_s=drain_s)


def serve_until_signalled(
    within: Callable[[], AbstractAsyncContextManager[T]],
    main: Callable[[T], Awaitable[None]],
    *,
    drain_s: float,
) -> None:
    """Run `main` on what `within` opens, as `run_until_signalled`.

    What `within` opens stays open and at work until `main` has drained: a signal cancels `main`
    alone, so it can still write its last words. One that comes before it is open ends the waiting.
    """
    gc.set_threshold(*GC_THRESHOLDS)
    fast = {"use_uvloop": importlib.util.find_spec("uvloop") is not None}
    anyio.run(_run, within, main, drain_s, backend_options=fast)


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send log events to `stream`, None being stderr: for eyes on a terminal, else JSON lines.

    Raises ConfigurationError for a level that does not exist.
    """
    if level not in LOG_LEVELS:
        raise ConfigurationError(
            f"log_level: given: {level!r} by FFRTMP_LOG_LEVEL; allowed: {', '.join(LOG_LEVELS)}"
        )
    target = sys.stderr if stream is None else stream
    ending: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors="NO_COLOR" not in os.environ)]
        if target.isatty()
        else [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *ending,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LOG_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )


async def _run(
    within: Callable[[], AbstractAsyncContextManager[T]],
    main: Callable[[T], Awaitable[None]],
    drain_s: float,
) -> None:
    async with anyio.create_task_group() as tasks:
        opening, service = tasks.cancel_scope, anyio.CancelScope()
        open_yet = anyio.Event()

        def stop() -> None:
            (service if open_yet.is_set() else opening).cancel()

        await tasks.start(_watch_signals, stop, drain_s)
        async with within() as ground:
            open_yet.set()
            with service:
                await main(ground)
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _nothing() -> AsyncGenerator[None]:
    yield


async def _watch_signals(
    stop: Callable[[], None],
    drain_s: float,
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    with anyio.open_signal_receiver(*STOP_SIGNALS) as signals:
        task_status.started()
        asked = False
        async for number in signals:
            if asked:
                os._exit(128 + number)
            asked = True
            _end_after(drain_s + DRAIN_MARGIN_S)
            stop()


def _end_after(delay_s: float) -> None:
    """Let the kernel end this process after `delay_s`, even if no code of it runs any more."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, delay_s)
