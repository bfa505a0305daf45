"""`ffrtmp worker`, `scheduler`, `projector`: one service each, in the foreground."""

import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from services.cli.invocation import Invocation, over_nats_at_last, pass_invocation
from services.cli.options import load_settings, settings_options
from services.config import ProjectorSettings, SchedulerSettings, WorkerSettings

if TYPE_CHECKING:
    from services.backbone import Backbone

SCHEDULER_DRAIN_S = 5.0
PROJECTOR_DRAIN_S = 10.0
TOKEN_CHARACTERS_MAX = 50
FFMPEG_CACHE = "ffmpeg-cache"
"""In the data directory: what each ffmpeg was seen to do on this machine."""


@click.command()
@settings_options(WorkerSettings)
@pass_invocation
def worker(invocation: Invocation, /, **options: Any) -> None:  # noqa: ANN401 - from the struct
    """Run a worker until SIGTERM, then finish or hand back what runs."""
    node_id = host_token()
    defaults = {
        "node_id": node_id,
        "work_dir": invocation.data_dir / "workers" / str(options.get("node_id") or node_id),
        "media_root": Path.cwd(),
        "output_root": invocation.data_dir / "outputs",
    }
    settings = load_settings(
        invocation, WorkerSettings, "worker", options=options, defaults=defaults
    )

    from services.bus.peers import worker_name  # noqa: PLC0415 - not for --help
    from services.cli.host.connection import make_directory  # noqa: PLC0415 - not for --help
    from services.worker.keep.identity import sole_user  # noqa: PLC0415 - not for --help

    make_directory(settings.work_dir, "work_dir")
    with sole_user(settings.work_dir) as fingerprint:

        async def serve(backbone: "Backbone") -> None:
            from services.cli.host.machine import look  # noqa: PLC0415 - not for --help
            from services.cli.version import version  # noqa: PLC0415 - not for --help
            from services.clock import SystemClock  # noqa: PLC0415 - not for --help
            from services.worker.service import run_worker  # noqa: PLC0415 - not for --help

            clock = SystemClock()
            machine = await look(
                settings,
                fingerprint=fingerprint,
                cache_dir=invocation.data_dir / FFMPEG_CACHE,
                clock=clock,
                version=version(),
            )
            await run_worker(backbone, settings, machine, clock=clock)

        run(invocation, worker_name(settings.node_id), serve, drain_s=settings.drain_s)


@click.command()
@settings_options(SchedulerSettings)
@pass_invocation
def scheduler(invocation: Invocation, /, **options: Any) -> None:  # noqa: ANN401 - from the struct
    """Run a scheduler until SIGTERM. Of any number on one log, one decides.

    The others are warm standbys: one of them takes over as soon as the leader is gone.
    """
    settings = load_settings(
        invocation, SchedulerSettings, "scheduler", options=options, defaults={}
    )

    async def serve(backbone: "Backbone") -> None:
        from services.clock import SystemClock  # noqa: PLC0415 - not for --help
        from services.scheduler.service import run_scheduler  # noqa: PLC0415 - not for --help

        await run_scheduler(backbone, settings, clock=SystemClock())

    run(invocation, "scheduler", serve, drain_s=SCHEDULER_DRAIN_S)


@click.command()
@settings_options(ProjectorSettings)
@pass_invocation
def projector(invocation: Invocation, /, **options: Any) -> None:  # noqa: ANN401 - from the struct
    """Run a projector until SIGTERM. Any number may run, each with a file of its own."""
    defaults = {"database": invocation.data_dir / "projector" / "ffrtmp.duckdb"}
    settings = load_settings(
        invocation, ProjectorSettings, "projector", options=options, defaults=defaults
    )

    async def serve(backbone: "Backbone") -> None:
        from services.clock import SystemClock  # noqa: PLC0415 - not for --help
        from services.projector.service import run_projector  # noqa: PLC0415 - not for --help

        await run_projector(backbone, settings, clock=SystemClock())

    run(invocation, "projector", serve, drain_s=PROJECTOR_DRAIN_S)


def run(
    invocation: Invocation,
    name: str,
    serve: "Callable[[Backbone], Awaitable[None]]",
    *,
    drain_s: float,
) -> None:
    """Connect as `name`, waiting for the server as long as it takes, and serve until a signal."""
    from services.lifecycle import (  # noqa: PLC0415 - not for --help
        configure_logging,
        serve_until_signalled,
    )

    configure_logging(invocation.environment.get("FFRTMP_LOG_LEVEL", "info"))
    connect = over_nats_at_last if invocation.connect is None else invocation.connect
    url = invocation.url()
    serve_until_signalled(lambda: connect(url, name), serve, drain_s=drain_s)


def host_token() -> str:
    """Return this host's name with nothing in it that a subject may not have."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:TOKEN_CHARACTERS_MAX] or "node"
