"""What running attempts say on the way: progress and output, thinned out and in order.

Executors speak whenever they like; what they say is kept here, the latest progress and a bounded
number of lines, and sent at a steady pace. Nothing here may slow an encode down. While the log is
away, progress is dropped (only the latest matters) and output waits on disk.
"""

from collections import deque
from collections.abc import Iterator

import anyio
import msgspec
import structlog

from events import subjects
from events.codec import Event
from events.ids import JobId, NodeId
from events.telemetry import LogChunk, OutputStream, Progress
from services.clock import Pen
from services.errors import LogUnavailable
from services.log.port import Entry, EventLog
from services.worker.keep.output import Output
from services.worker.port import Sample

LINES_KEPT_MAX = 1_000
"""Lines of one attempt that wait to be sent; of more, the oldest are left out and counted."""
LINE_CHARS_MAX = 4_000
CHUNK_LINES_MAX = 100
CHUNK_BYTES_MAX = 400_000
"""As JSON; below the log's largest message, whatever characters the lines have."""
LAST_WORDS_S = 3.0
"""How long the end of an attempt waits for its output to be stored."""

_log = structlog.get_logger()
_json = msgspec.json.Encoder().encode


class Voice:
    """The report of one attempt."""

    def __init__(self, job: JobId, attempt: int) -> None:
        self.job = job
        self.attempt = attempt
        self.chunks = 0
        self._sample: Sample | None = None
        self._lines: deque[tuple[OutputStream, str]] = deque(maxlen=LINES_KEPT_MAX)
        self._left_out = 0

    @property
    def silent(self) -> bool:
        """Whether nothing was printed so far, and no progress waits."""
        return not (self.chunks or self._lines or self._sample is not None)

    def progress(self, sample: Sample) -> None:
        """Keep the latest progress."""
        self._sample = sample

    def lines(self, stream: OutputStream, lines: list[str]) -> None:
        """Keep what was printed."""
        for line in lines:
            if len(self._lines) == LINES_KEPT_MAX:
                self._left_out += 1
            # names of files may hold bytes that are no text
            text = line[:LINE_CHARS_MAX].encode("utf-8", "replace").decode()
            self._lines.append((stream, text))

    def take_sample(self) -> Sample | None:
        """Return the progress since the last call; None: there is none."""
        sample, self._sample = self._sample, None
        return sample

    def take_lines(self) -> Iterator[tuple[OutputStream, tuple[str, ...]]]:
        """Return the lines since the last call, in runs of one stream that fit into one event."""
        if self._left_out:
            words = f"[{self._left_out} lines left out: printed faster than they can be stored]"
            self._left_out = 0
            yield OutputStream.WORKER, (words,)
        run: list[str] = []
        size = 0
        current = OutputStream.STDERR
        while self._lines:
            stream, line = self._lines.popleft()
            size += len(_json(line))
            full = len(run) == CHUNK_LINES_MAX or size > CHUNK_BYTES_MAX
            if run and (stream is not current or full):
                yield current, tuple(run)
                run, size = [], len(_json(line))
            current = stream
            run.append(line)
        if run:
            yield current, tuple(run)


class Teller:
    """Sends what the voices of one node say."""

    def __init__(self, node: NodeId, pen: Pen, *, telemetry: EventLog, output: Output) -> None:
        self._node = node
        self._pen = pen
        self._telemetry = telemetry
        self._output = output
        self._voices: dict[tuple[JobId, int], Voice] = {}

    def voice(self, job: JobId, attempt: int) -> Voice:
        """Return a new report for an attempt; its words are sent from now on."""
        voice = Voice(job, attempt)
        self._voices[job, attempt] = voice
        return voice

    async def hush(self, voice: Voice) -> None:
        """Send an attempt's last words and forget it; while the log is away that is not waited for.

        Its lines are on disk then, its last progress is lost.
        """
        self._voices.pop((voice.job, voice.attempt), None)
        if voice.silent:
            return
        self._collect([voice])
        with anyio.move_on_after(LAST_WORDS_S):
            await self._report([voice])
            await self._output.settled()

    async def run(self, period_s: float) -> None:
        """Send at most every `period_s`, until cancelled; an outage of one stream stalls no other.

        Whatever waits at the end goes to disk.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._output.run)
            tasks.start_soon(self._run_progress, period_s)
            while True:
                await anyio.sleep(period_s)
                self._collect(list(self._voices.values()))

    async def _run_progress(self, period_s: float) -> None:
        while True:
            await anyio.sleep(period_s)
            await self._report(list(self._voices.values()))

    def _collect(self, voices: list[Voice]) -> None:
        """Take over what was printed; it is sent or kept from here on."""
        chunks = [event for voice in voices for event in self._chunks(voice)]
        if chunks:
            self._output.put(chunks)

    async def _report(self, voices: list[Voice]) -> None:
        """Report progress; one that the log does not take is out of date when it is back."""
        progress = [entry for voice in voices if (entry := self._progress(voice)) is not None]
        if not progress:
            return
        try:
            await self._telemetry.append(progress)
        except LogUnavailable as outage:
            _log.warning("progress.dropped", attempts=len(progress), error=str(outage))

    def _progress(self, voice: Voice) -> Entry | None:
        sample = voice.take_sample()
        if sample is None:
            return None
        fact = Progress(
            node=self._node,
            attempt=voice.attempt,
            percent=sample.percent,
            out_time_s=sample.out_time_s,
            frame=sample.frame,
            fps=sample.fps,
            speed=sample.speed,
            bitrate_bps=sample.bitrate_bps,
            size_bytes=sample.size_bytes,
            eta_s=sample.eta_s,
            dropped=sample.dropped,
        )
        return Entry(self._pen.write(subjects.telemetry_of_job(voice.job), fact))

    def _chunks(self, voice: Voice) -> Iterator[Event]:
        for stream, lines in voice.take_lines():
            chunk = LogChunk(
                node=self._node,
                attempt=voice.attempt,
                number=voice.chunks,
                stream=stream,
                lines=lines,
            )
            voice.chunks += 1
            yield self._pen.write(subjects.logs(voice.job, voice.attempt), chunk)
