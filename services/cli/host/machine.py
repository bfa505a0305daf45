"""Looks at this machine and puts together what a worker on it offers."""

from pathlib import Path

from events.spec import Engine
from services.cli.host.connection import make_directory
from services.clock import Clock
from services.config import WorkerSettings
from services.worker.ffmpeg.executor import FfmpegExecutor, FfmpegSettings
from services.worker.ffmpeg.locate import capabilities, locate
from services.worker.guard.threads import Threads
from services.worker.hardware import LoadReader, read_hardware
from services.worker.noop import NoopExecutor
from services.worker.port import Executor, Machine

HANGING_MAX = 64
"""Calls into a work directory that may hang; then attempts fail at once."""


async def look(
    settings: WorkerSettings, *, fingerprint: str, cache_dir: Path, clock: Clock, version: str
) -> Machine:
    """Return the machine as a worker with these settings offers it.

    What ffmpeg was seen to do is kept in `cache_dir`, which workers may share.
    Raises ConfigurationError when no ffmpeg works here.
    """
    make_directory(settings.output_root, "output_root")
    found = await locate(cache_dir)
    hardware = await read_hardware(settings.work_dir, found.version)
    ffmpeg = FfmpegExecutor(
        FfmpegSettings(
            ffmpeg=Path(found.path),
            encoders=found.video_encoders,
            media_root=settings.media_root,
            output_root=settings.output_root,
        ),
        clock,
    )
    executors: dict[Engine, Executor] = {Engine.FFMPEG: ffmpeg, Engine.NOOP: NoopExecutor()}
    return Machine(
        executors=executors,
        capabilities=(
            *capabilities(found),
            *(("gpu",) if hardware.gpus else ()),
        ),
        hardware=hardware,
        read_load=LoadReader(settings.work_dir, settings.output_root).read,
        aside=Threads(HANGING_MAX).run,
        address=f"{hardware.hostname}/{settings.work_dir.name}",
        version=version,
        fingerprint=fingerprint,
    )
