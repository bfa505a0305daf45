"""Runs attempts with ffmpeg: plan, place, encode, prove, and only then say it is made."""

import errno
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from math import inf
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING

import anyio
from msgspec import Struct, structs

from events.job import FailureClass
from events.media import EncodeStats, MadeFile, TestSource
from events.telemetry import OutputStream
from services.clock import Clock
from services.worker.ffmpeg import paths
from services.worker.ffmpeg.argv import (
    Target,
    arguments,
    file_url,
    guarded_file,
    guarded_url,
)
from services.worker.ffmpeg.classify import Verdict, classify, premature_end
from services.worker.ffmpeg.encoders import Unusable, encoder_for
from services.worker.ffmpeg.inspect import Least, Media, Stream, inspect, mismatch
from services.worker.ffmpeg.plan import Plan, Rendition, UrlSource, plan
from services.worker.ffmpeg.process import Brake, Ended, Words, run
from services.worker.ffmpeg.progress import ProgressReader
from services.worker.guard.threads import Threads
from services.worker.guard.usage import measure
from services.worker.port import Broken, Made, Report, Result, Sample, Usage, Work

if TYPE_CHECKING:
    from events.ids import JobId

_NOTHING = Sample(
    out_time_s=0.0,
    percent=None,
    frame=0,
    fps=0.0,
    speed=0.0,
    bitrate_bps=None,
    size_bytes=None,
    eta_s=None,
    dropped=0,
)


DISCARD_S = 10.0
"""How long the end of an attempt waits for its files to go; a file system that hangs keeps them,
and whoever runs the attempt has them removed later."""
HANGING_MAX = 64
"""Calls into file systems that may hang; then attempts fail at once."""
END_S = 0.5
"""With less than this to go, and a tenth of all, what is left is closing the files."""


class FfmpegSettings(Struct, frozen=True, kw_only=True):
    """How a worker runs ffmpeg."""

    ffmpeg: Path
    encoders: tuple[str, ...]
    """Video encoders that were seen to work here."""
    media_root: Path
    output_root: Path
    grace_s: float = 2.0
    """How long a canceled encode has to end in order. Its output is thrown away, so this is for
    sessions on devices and connections; slow encoders drain for many seconds if let."""
    strict: bool = True
    """A corrupt input fails the attempt; False: damage is concealed, as ffmpeg does by itself."""


class _Run(Struct, frozen=True):
    """An attempt that runs."""

    brake: Brake
    files: list[Path]
    """What it writes, once that is known."""


class FfmpegExecutor:
    """Runs each attempt as one ffmpeg process, whatever number of outputs it has."""

    def __init__(self, settings: FfmpegSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._runs: dict[tuple[JobId, int], _Run] = {}
        self._threads = Threads(HANGING_MAX)

    async def run(self, work: Work, report: Report) -> Result:
        """Run one attempt to its end; see `services.worker.port.Executor`.

        Only an error in removing files may leave it, and only in place of a cancellation.
        """
        key = (work.job, work.attempt)
        running = self._runs[key] = _Run(Brake(self._clock), [])
        try:
            return await self._run(work, report, running)
        finally:
            del self._runs[key]

    def pause(self, work: Work) -> bool:
        """Stop the attempt's encode with SIGSTOP; a look into a file may still come to its end."""
        running = self._runs.get((work.job, work.attempt))
        if running is not None:
            running.brake.engage()
        return running is not None

    def resume(self, work: Work) -> None:
        """Let the attempt's encode go on with SIGCONT."""
        running = self._runs.get((work.job, work.attempt))
        if running is not None:
            running.brake.release()

    async def usage(self, work: Work) -> Usage | None:
        """Measure the attempt's encode and its files; None: the attempt does not run."""
        running = self._runs.get((work.job, work.attempt))
        return None if running is None else await measure(running.brake.pid, running.files)

    async def _run(self, work: Work, report: Report, running: _Run) -> Result:
        try:
            result = await self._attempt(work, report, running)
            await running.brake.released()
        except Unusable as refused:
            result = Broken(failure=FailureClass.PERMANENT, message=str(refused))
        except OSError as error:  # TimeoutError is one
            result = Broken(failure=_failure_of(error), message=f"{type(error).__name__}: {error}")
        except BaseException:
            with anyio.move_on_after(DISCARD_S, shield=True):
                await self.discard(work)
            raise
        if isinstance(result, Made):
            return result
        return await self._cleaned(work, result)

    async def promote(self, work: Work, made: Made) -> None:
        """Give the attempt's files their final names; doing it again does nothing.

        An older file of that name is replaced in one step. Raises FileNotFoundError when neither
        the attempt's file nor the final one is there.
        """
        names = {file.path for file in made.files}
        for rendition in plan(work.spec, work.job).renditions:
            if rendition.path in names:
                await self._threads.run(partial(self._promote, work, rendition))

    async def discard(self, work: Work) -> None:
        """Remove whatever files the attempt has left; doing it again does nothing."""
        with suppress(Unusable):  # then nothing was ever written
            planned = plan(work.spec, work.job)
            await self._threads.run(partial(self._discard, work, planned))

    def _promote(self, work: Work, rendition: Rendition) -> None:
        paths.promote(self._place(work, rendition))

    def _discard(self, work: Work, planned: Plan) -> None:
        paths.discard(self._places(work, planned))

    def _place(self, work: Work, rendition: Rendition) -> paths.Place:
        root = self._settings.output_root
        return paths.place(root, rendition, job=work.job, attempt=work.attempt)

    def _places(self, work: Work, planned: Plan) -> list[paths.Place]:
        return [self._place(work, rendition) for rendition in planned.renditions]

    async def _cleaned(self, work: Work, result: Broken) -> Broken:
        try:
            await self.discard(work)
        except OSError as error:
            message = f"{result.message}; its partial files could not be removed: {error}"
            return structs.replace(result, message=message)
        return result

    async def _attempt(self, work: Work, report: Report, running: _Run) -> Result:
        begun_s = self._clock.monotonic_s()
        planned = plan(work.spec, work.job)
        targets = await self._targets(work, planned)
        running.files.extend(target.path for target in targets)
        opened, media = await self._open(planned)
        if isinstance(media, Verdict):
            return Broken(failure=media.failure, message=media.message)
        total_s = length_s(planned, media)
        report.expects(total_s)
        audio = media.first("audio") is not None
        strict = self._settings.strict
        command = arguments(planned, targets, opened=opened, audio=audio, strict=strict)
        encode = _Encode(report, total_s, running.brake)
        ended = await encode.run([str(self._settings.ffmpeg), *command], self._settings.grace_s)
        report.finishing()
        wall_s = self._clock.monotonic_s() - begun_s - running.brake.stopped_s
        stats = _stats(encode.last, wall_s, ended.cpu_s, targets)
        files: tuple[MadeFile, ...] = ()
        verdict = _verdict(ended.exit_status, encode.words.lines(), planned)
        if verdict is None:
            least = Least(
                written_s=encode.last.out_time_s,
                asked_s=0.0 if planned.duration_s is None else total_s or 0.0,
                fetched=isinstance(planned.source, UrlSource),
                audio=audio,
            )
            files, verdict = await self._prove(targets, least)
        if verdict is None:
            return Made(files=files, stats=stats)
        return Broken(
            failure=verdict.failure,
            message=verdict.message,
            exit_status=ended.exit_status,
            stats=stats,
        )

    async def _targets(self, work: Work, planned: Plan) -> list[Target]:
        """Choose encoders and make room for the outputs; raises Unusable, OSError."""
        places = await self._threads.run(partial(self._places, work, planned))
        encoders = self._settings.encoders
        targets = [
            Target(
                rendition=one,
                encoder=encoder_for(one.video.encoder, one.codec, encoders),
                path=place.attempt,
            )
            for one, place in zip(planned.renditions, places, strict=True)
        ]
        root = self._settings.output_root
        await self._threads.run(partial(paths.prepare, root, places))
        return targets

    async def _open(self, planned: Plan) -> tuple[str, Media | Verdict]:
        """Return what ffmpeg shall open and what is in it."""
        source = planned.source
        if isinstance(source, TestSource):
            return "", _test_media(source)
        if isinstance(source, UrlSource):
            opened, guarded = source.url, guarded_url()
        else:
            root = self._settings.media_root
            path = await self._threads.run(partial(paths.find_input, root, source.path))
            opened, guarded = file_url(path), guarded_file()
        media = await inspect(self._settings.ffmpeg, guarded, opened)
        if isinstance(media, Media) and media.first("video") is None:
            raise Unusable("the input has no video stream; nothing can be made of it")
        return opened, media

    async def _prove(
        self, targets: Sequence[Target], least: Least
    ) -> tuple[tuple[MadeFile, ...], Verdict | None]:
        """Look into every output; return them, or the first thing that is not as asked."""
        files: list[MadeFile] = []
        for target in targets:
            made = await inspect(self._settings.ffmpeg, guarded_file(), file_url(target.path))
            verdict = mismatch(target.rendition, made, least)
            if verdict is not None or isinstance(made, Verdict):
                return (), verdict
            size_bytes = await self._threads.run(partial(paths.seal, target.path))
            files.append(
                MadeFile(
                    path=target.rendition.path,
                    size_bytes=size_bytes,
                    duration_s=made.duration_s or 0.0,
                )
            )
        return tuple(files), None


class _Encode:
    """One run of ffmpeg: what it prints goes to the report and is kept for the verdict."""

    def __init__(self, report: Report, total_s: float | None, brake: Brake) -> None:
        self._report = report
        self._brake = brake
        self._progress = ProgressReader(total_s)
        self._end_s = inf if total_s is None else total_s - min(END_S, total_s / 10)
        self.words = Words()
        self.last = _NOTHING

    async def run(self, command: Sequence[str], grace_s: float) -> Ended:
        self._report.lines(OutputStream.WORKER, [join(command)])
        ended = await run(
            command,
            stdout=self._stdout,
            stderr=self._stderr,
            grace_s=grace_s,
            brake=self._brake,
        )
        self._tell(self.words.rest())
        return ended

    def _stdout(self, data: bytes) -> None:
        for sample in self._progress.feed(data):
            self.last = sample
            self._report.progress(sample)
            if sample.out_time_s >= self._end_s:
                self._report.finishing()

    def _stderr(self, data: bytes) -> None:
        self._tell(self.words.feed(data))

    def _tell(self, lines: list[str]) -> None:
        if lines:
            self._report.lines(OutputStream.STDERR, lines)


def length_s(planned: Plan, media: Media) -> float | None:
    """Return how many seconds the outputs shall have; None is not known.

    Raises Unusable when the plan begins where the input has ended.
    """
    if isinstance(planned.source, TestSource) or media.duration_s is None:
        return planned.duration_s
    left_s = media.duration_s - planned.start_s
    if left_s <= 0:
        raise Unusable(
            f"start_s {planned.start_s:g} is not before the end of the input; "
            f"allowed: below {media.duration_s:g}"
        )
    return left_s if planned.duration_s is None else min(planned.duration_s, left_s)


def _test_media(source: TestSource) -> Media:
    video = Stream(kind="video", codec="", width=source.width, height=source.height)
    sound = (Stream(kind="audio", codec=""),) if source.audio else ()
    return Media(streams=(video, *sound), duration_s=source.duration_s)


def _verdict(exit_status: int, lines: Sequence[str], planned: Plan) -> Verdict | None:
    """Return why the run failed; status 0 is no success when the input broke off."""
    if exit_status != 0:
        return classify(exit_status, lines)
    broken_off = premature_end(lines)
    if broken_off is None:
        return None
    fetched = isinstance(planned.source, UrlSource)
    return Verdict(FailureClass.TRANSIENT if fetched else FailureClass.PERMANENT, broken_off)


def _stats(last: Sample, wall_s: float, cpu_s: float, targets: Sequence[Target]) -> EncodeStats:
    return EncodeStats(
        wall_s=wall_s,
        cpu_s=cpu_s,
        frames=last.frame,
        fps=last.frame / wall_s if wall_s > 0 else 0.0,
        speed=last.out_time_s / wall_s if wall_s > 0 else 0.0,
        encoder=",".join(dict.fromkeys(target.encoder for target in targets)),
    )


_OF_THE_NODE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOMEM}


def _failure_of(error: OSError) -> FailureClass:
    if isinstance(error, TimeoutError):
        return FailureClass.TRANSIENT
    return FailureClass.RESOURCE if error.errno in _OF_THE_NODE else FailureClass.INFRASTRUCTURE
