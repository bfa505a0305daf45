"""`ffrtmp up`: a whole fleet on this host, in the foreground."""

from pathlib import Path
from typing import Any

import click

from services.cli.host.fleet import DRAIN_S, Place, UpSettings, running
from services.cli.invocation import Invocation, pass_invocation
from services.cli.options import load_settings, settings_options
from services.clock import Clock, SystemClock
from services.supervise import ChildState, ChildStatus
from tui import present

_GLYPHS = {
    ChildState.STARTING: "◌",
    ChildState.RUNNING: "▶",
    ChildState.BACKING_OFF: "↻",
    ChildState.DRAINING: "▷",
    ChildState.STOPPED: "○",
    ChildState.GIVEN_UP: "✖",
}


@click.command()
@settings_options(UpSettings)
@pass_invocation
def up(invocation: Invocation, /, **options: Any) -> None:  # noqa: ANN401 - from the struct
    """Run a NATS server, a scheduler, a projector and workers until Ctrl-C, which drains them.

    With --nats, an existing server is used instead of one of our own.
    """
    defaults = {"media_root": Path.cwd(), "output_root": invocation.data_dir / "outputs"}
    settings = load_settings(invocation, UpSettings, "up", options=options, defaults=defaults)
    _check_services(invocation)
    data_dir = invocation.data_dir.absolute()
    place = Place(data_dir=data_dir, nats=invocation.nats, config=invocation.config)
    clock = SystemClock()

    async def main() -> None:
        import anyio  # noqa: PLC0415 - not for --help

        def tell(status: ChildStatus) -> None:
            click.echo(line(status, clock))

        async with running(settings, place, tell):
            click.echo(_welcome(data_dir, settings))
            await anyio.sleep_forever()

    from services.lifecycle import (  # noqa: PLC0415 - not for --help
        configure_logging,
        run_until_signalled,
    )

    configure_logging(invocation.environment.get("FFRTMP_LOG_LEVEL", "warning"))
    run_until_signalled(main, drain_s=DRAIN_S)


def _check_services(invocation: Invocation) -> None:
    """Read the settings of the services as they will. Raises ConfigurationError before any starts.

    What `up` itself gives to a worker stands here for any value that works.
    """
    from services.config import (  # noqa: PLC0415 - not for --help
        ProjectorSettings,
        SchedulerSettings,
        WorkerSettings,
    )

    given = {"node_id": "any", "work_dir": ".", "media_root": ".", "output_root": "."}
    for kind, name, options in (
        (ProjectorSettings, "projector", {"database": "any"}),
        (SchedulerSettings, "scheduler", {}),
        (WorkerSettings, "worker", given),
    ):
        load_settings(invocation, kind, name, options=options, defaults={})


def line(status: ChildStatus, clock: Clock) -> str:
    """Return what happened to a child, and its last words if it crashed."""
    parts = [
        f"{clock.now():%H:%M:%S}  {status.name:<20} {_GLYPHS[status.state]} {status.state.value}"
    ]
    if status.pid is not None:
        parts.append(f"pid {status.pid}")
    if status.state in {ChildState.BACKING_OFF, ChildState.GIVEN_UP}:
        parts.append(status.exit)
    if status.retry_s:
        parts.append(f"again in {present.duration(status.retry_s)}")
    if status.again:
        parts.append("left in order; start it again with:")
        return "\n".join(["  ".join(parts), f"          | {status.again}"])
    crashed = status.state in {ChildState.BACKING_OFF, ChildState.GIVEN_UP}
    words = status.last_lines if crashed else ()
    return "\n".join(["  ".join(parts), *(f"          | {word}" for word in words)])


def _welcome(data_dir: Path, settings: UpSettings) -> str:
    return (
        f"\nThe fleet runs; its data and logs are in {data_dir}.\n"
        f"Inputs are below {settings.media_root.absolute()}, outputs come to "
        f"{settings.output_root.absolute()}.\n"
        "In another terminal:\n\n"
        f"  export FFRTMP_DATA_DIR={data_dir}\n"
        "  ffrtmp jobs submit 720p30-h264 --follow\n"
        "  ffrtmp jobs list\n\n"
        "Ctrl-C drains and stops it.\n"
    )
