"""`ffrtmp demo`: start everything, transcode real video, ask the audit, prove the outputs."""

import shutil
import tempfile
from pathlib import Path

import anyio
import click
from anyio import to_thread

from services.cli.demo.media import make_inputs
from services.cli.demo.play import Stage, play
from services.cli.host.fleet import DRAIN_S, WORKER_PREFIX, Place, UpSettings, running
from services.cli.host.serve import FFMPEG_CACHE
from services.cli.host.up import line
from services.cli.invocation import Exit, Invocation, pass_invocation
from services.clock import SystemClock
from services.lifecycle import run_until_signalled
from services.supervise import ChildStatus
from services.worker.ffmpeg.locate import locate

WORKERS = 2
DEMO_S_MAX = 300.0
"""A machine that takes longer is too small for a demo."""


@click.command()
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the outputs in this directory.",
)
@pass_invocation
def demo(invocation: Invocation, /, *, keep: Path | None) -> int:
    """Run a whole fleet on this host, transcode real video, and check every output.

    Exit status 0 only if every job ended as it must and every output is what was asked for.
    """
    del invocation
    directory = Path(tempfile.mkdtemp(prefix="ffrtmp-demo-"))
    results: list[bool] = []

    async def main() -> None:
        with anyio.fail_after(DEMO_S_MAX):
            results.append(await _perform(directory, keep))

    try:
        run_until_signalled(main, drain_s=DRAIN_S)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if not results:
        return Exit.INTERRUPTED
    return Exit.OK if results[0] else Exit.FAILED


async def _perform(directory: Path, keep: Path | None) -> bool:
    clock = SystemClock()
    began_s = clock.monotonic_s()
    media_root = directory / "inputs"
    output_root = (directory / "outputs" if keep is None else keep).absolute()
    await to_thread.run_sync(media_root.mkdir)
    _say("Looking for a working ffmpeg and making the inputs")
    found = await locate(directory / FFMPEG_CACHE)
    ffmpeg = Path(found.path)
    await make_inputs(ffmpeg, media_root)
    _say(f"Starting nats-server, projector, scheduler and {WORKERS} workers in {directory}")

    pids: dict[str, int] = {}

    def tell(status: ChildStatus) -> None:
        click.echo(line(status, clock))
        if status.pid is not None:
            pids[status.name.removeprefix(WORKER_PREFIX)] = status.pid

    settings = UpSettings(workers=WORKERS, slots=1, media_root=media_root, output_root=output_root)
    async with running(settings, Place(data_dir=directory), tell) as fleet:
        good = await play(Stage(url=fleet.url, ffmpeg=ffmpeg, output_root=output_root, pids=pids))
        _say("Stopping everything")
    took_s = clock.monotonic_s() - began_s
    kept = "" if keep is None else f"; outputs are in {output_root}"
    verdict = "All is as it should be" if good else "NOT all is as it should be"
    _say(f"{verdict}: {took_s:.1f} s{kept}")
    return good


def _say(words: str) -> None:
    click.echo(f"\n== {words}")
