"""The media executor with the real ffmpeg; what it made is looked at with another decoder."""

# PyAV declares `Packet` generic and then uses it without an argument
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

import os
import signal
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from time import process_time

import anyio
import av
import psutil
import pytest
from msgspec import structs

from events.ids import JobId
from events.job import FailureClass
from events.media import (
    Audio,
    AudioCodec,
    Output,
    Parameters,
    TestSource,
    Video,
    VideoCodec,
)
from events.spec import JobSpec, ResourceLimits
from events.telemetry import OutputStream
from services.clock import SystemClock
from services.errors import ConfigurationError
from services.worker.ffmpeg.executor import FfmpegExecutor, FfmpegSettings
from services.worker.ffmpeg.locate import ENVIRONMENT, Ffmpeg, capabilities, locate
from services.worker.ffmpeg.process import (
    HEAD_LINES_MAX,
    TAIL_LINES_MAX,
    Words,
    bound_to_this_process,
    run,
)
from services.worker.noop import NoopExecutor
from services.worker.port import Broken, Executor, Made, Result, Sample, Work

pytestmark = [pytest.mark.anyio, pytest.mark.acceptance]

SMALL = TestSource(width=192, height=108, rate=25.0, duration_s=1.0)
LONG = TestSource(width=1280, height=720, rate=30.0, duration_s=600.0)
WAIT_S = 20.0


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def ffmpeg(tmp_path_factory: pytest.TempPathFactory) -> Ffmpeg:
    return await locate(tmp_path_factory.mktemp("cache"))


class Bench:
    """An executor with roots of its own."""

    def __init__(self, directory: Path, ffmpeg: Ffmpeg) -> None:
        self.media, self.out = directory / "media", directory / "out"
        self.media.mkdir()
        self.settings = FfmpegSettings(
            ffmpeg=Path(ffmpeg.path),
            encoders=ffmpeg.video_encoders,
            media_root=self.media,
            output_root=self.out,
            grace_s=0.5,
        )
        self.executor: Executor = FfmpegExecutor(self.settings, SystemClock())
        self.report = Told()

    async def run(self, spec: JobSpec, job: str = "j1") -> Result:
        return await self.executor.run(work(spec, job), self.report)

    async def make(self, spec: JobSpec, job: str = "j1") -> Made:
        made = await self.run(spec, job)
        assert isinstance(made, Made), (made, self.report.said)
        await self.executor.promote(work(spec, job), made)
        return made

    async def clip(self, name: str, source: TestSource = SMALL) -> Path:
        """Make an input."""
        spec = JobSpec(input=source, outputs=(Output(path=name),), parameters=FAST)
        (self.media / name).parent.mkdir(parents=True, exist_ok=True)
        await self.make(spec, "clip")
        return (self.out / name).rename(self.media / name)

    def files(self) -> list[str]:
        if not self.out.exists():
            return []
        return sorted(str(f.relative_to(self.out)) for f in self.out.rglob("*") if f.is_file())


class Told:
    """A report that keeps what it is told, and lets a test wait for the first sample."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.said: list[tuple[OutputStream, str]] = []
        self.begun = anyio.Event()

    def progress(self, sample: Sample) -> None:
        self.samples.append(sample)
        self.begun.set()

    def lines(self, stream: OutputStream, lines: list[str]) -> None:
        self.said += [(stream, line) for line in lines]


def work(spec: JobSpec, job: str = "j1") -> Work:
    return Work(job=JobId(job), attempt=1, spec=spec)


FAST = Parameters(video=Video(preset="ultrafast"))


@pytest.fixture
def bench(tmp_path: Path, ffmpeg: Ffmpeg) -> Iterator[Bench]:
    yield Bench(tmp_path, ffmpeg)
    assert children() == []


def children() -> list[str]:
    return [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]


async def gone(pid: int) -> None:
    """Wait until a process that is not our child has ended; a zombie of nobody's has."""
    with anyio.fail_after(WAIT_S):
        while runs(pid):  # noqa: ASYNC110 - somebody else's child sends no signal
            await anyio.sleep(0.01)


def runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def looked_at(path: Path) -> tuple[str, int, int, Fraction | None, int, str | None]:
    """Decode all of a file with PyAV: codec, size, rate, frames, audio codec."""
    with av.open(str(path)) as file:
        video = file.streams.video[0]
        frames = sum(1 for _ in file.decode(video))
        audio = file.streams.audio[0].codec_context.name if file.streams.audio else None
        codec = {"libdav1d": "av1"}.get(video.codec_context.name, video.codec_context.name)
        found = (codec, video.width, video.height, video.average_rate, frames, audio)
    if audio is not None:
        with av.open(str(path)) as file:
            assert sum(frame.samples for frame in file.decode(audio=0)) >= 44_100
    return found


@pytest.mark.parametrize(
    ("codec", "preset", "name", "audio"),
    [
        (VideoCodec.H264, "ultrafast", "j1.mp4", "aac"),
        (VideoCodec.HEVC, "ultrafast", "j1.mp4", "aac"),
        (VideoCodec.VP9, "8", "j1.webm", "opus"),
        (VideoCodec.AV1, "12", "j1.mkv", "opus"),
    ],
)
async def test_every_codec_is_made_as_asked(
    bench: Bench, codec: VideoCodec, preset: str, name: str, audio: str
) -> None:
    video = Video(codec=codec, preset=preset, width=160, height=90, rate=30.0)
    made = await bench.make(JobSpec(input=SMALL, parameters=Parameters(video=video)))
    assert [file.path for file in made.files] == [name]
    assert bench.files() == [name]
    assert looked_at(bench.out / name) == (codec, 160, 90, Fraction(30), 30, audio)
    (file,) = made.files
    assert file.size_bytes == (bench.out / name).stat().st_size
    assert file.duration_s == pytest.approx(1.0, abs=0.06)
    assert made.stats.frames == 30
    assert 0 < made.stats.cpu_s < 60
    assert made.stats.wall_s > 0
    assert made.stats.fps == pytest.approx(30 / made.stats.wall_s)
    assert bench.report.samples[-1].out_time_s == pytest.approx(1.0, abs=0.06)
    assert [line for stream, line in bench.report.said if stream is not OutputStream.WORKER] == []


async def test_a_ladder_of_a_file_is_made_by_one_process(bench: Bench) -> None:
    await bench.clip("in/a.mkv")
    spec = JobSpec(
        input="in/a.mkv",
        parameters=Parameters(
            video=Video(preset="ultrafast"),
            audio=Audio(codec=AudioCodec.AAC, sample_rate_hz=44_100, channels=2),
        ),
        outputs=(
            Output(path="l/hi.mp4"),
            Output(path="l/lo.mp4", video=Video(height=54, rate=12.5)),
        ),
        limits=ResourceLimits(cpu_threads=1),
    )
    bench.report = Told()
    made = await bench.make(spec)
    assert [file.path for file in made.files] == ["l/hi.mp4", "l/lo.mp4"]
    assert looked_at(bench.out / "l/hi.mp4") == ("h264", 192, 108, Fraction(25), 25, "aac")
    got = looked_at(bench.out / "l/lo.mp4")
    assert (got[:4], got[4] in {12, 13}) == (("h264", 96, 54, Fraction(25, 2)), True)
    assert len([1 for stream, _ in bench.report.said if stream is OutputStream.WORKER]) == 1


async def test_a_span_of_a_silent_file_is_cut_exactly(bench: Bench) -> None:
    await bench.clip("a.mp4", structs.replace(SMALL, duration_s=3.0, audio=False))
    spec = JobSpec(
        input="a.mp4",
        parameters=structs.replace(FAST, start_s=1.0, duration_s=1.2),
    )
    await bench.make(spec)
    assert looked_at(bench.out / "j1.mp4") == ("h264", 192, 108, Fraction(25), 30, None)


@pytest.mark.parametrize(
    "name", ["-f.mp4", "a:b.mp4", "x y'z.mp4", "ü 漢 %d.mp4", "concat:a|b.mp4"]
)
async def test_odd_names_are_names_and_nothing_else(bench: Bench, name: str) -> None:
    await bench.clip(name)
    await bench.make(JobSpec(input=name, parameters=FAST, outputs=(Output(path=name),)))
    assert bench.files() == [name]
    assert looked_at(bench.out / name)[:3] == ("h264", 192, 108)


async def test_an_odd_size_is_made_even(bench: Bench) -> None:
    name = "odd.mkv"
    with av.open(str(bench.media / name), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 65, 49, "yuv444p"
        for _ in range(5):
            file.mux(stream.encode(av.VideoFrame(65, 49, "yuv444p")))
        file.mux(stream.encode())
    await bench.make(JobSpec(input=name, parameters=FAST))
    assert looked_at(bench.out / "j1.mp4")[:5] == ("h264", 64, 48, Fraction(25), 5)


async def broken(bench: Bench, spec: JobSpec) -> Broken:
    result = await bench.run(spec)
    assert isinstance(result, Broken)
    assert bench.files() == []
    return result


async def test_an_encoder_nobody_has_may_be_elsewhere(bench: Bench) -> None:
    got = await broken(
        bench, JobSpec(input=SMALL, parameters=Parameters(video=Video(encoder="nosuch")))
    )
    assert (got.failure, got.exit_status) == (FailureClass.RESOURCE, 8)
    assert "Unknown encoder 'nosuch'" in got.message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("none.mp4", "no such file below"),
        ("sub", "is a directory"),
        ("../out/x.mp4", "leads out of"),
        ("/etc/passwd", "leads out of"),
        ("link.mp4", "leads out of"),
        ("ftp://h/x.mp4", "scheme 'ftp'"),
    ],
)
async def test_an_input_that_is_none_is_refused(bench: Bench, given: str, message: str) -> None:
    (bench.media / "sub").mkdir()
    (bench.media / "link.mp4").symlink_to("/etc/passwd")
    got = await broken(bench, JobSpec(input=given))
    assert (got.failure, got.exit_status) == (FailureClass.PERMANENT, None)
    assert message in got.message


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
async def test_an_input_that_breaks_off_fails_the_attempt(bench: Bench, name: str) -> None:
    path = await bench.clip(name, structs.replace(SMALL, duration_s=3.0))
    os.truncate(path, path.stat().st_size * 2 // 3)
    got = await broken(bench, JobSpec(input=name, parameters=FAST))
    assert got.failure is FailureClass.PERMANENT


async def test_hidden_corruption_fails_the_attempt_unless_it_is_tolerated(bench: Bench) -> None:
    path = await bench.clip("a.mp4", structs.replace(SMALL, duration_s=3.0, noise=30))
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 3, len(data) * 2 // 3, 997):
        data[at] ^= 0x5A
    path.write_bytes(data)
    spec = JobSpec(input="a.mp4", parameters=FAST)
    got = await broken(bench, spec)
    assert got.failure is FailureClass.PERMANENT
    lenient = FfmpegExecutor(structs.replace(bench.settings, strict=False), SystemClock())
    assert isinstance(await lenient.run(work(spec), bench.report), Made)


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nb.mp4\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("empty.mp4", b"", "moov atom not found"),
        ("junk.mp4", b"junk" * 999, "moov atom not found"),
        ("list.m3u8", PLAYLIST, "Format not on whitelist"),
        ("list.txt", b"ffconcat version 1.0\nfile b.mp4\n", "Format not on whitelist"),
    ],
)
async def test_what_is_no_media_file_or_leads_to_others_is_refused(
    bench: Bench, name: str, text: bytes, message: str
) -> None:
    await bench.clip("b.mp4")
    (bench.media / name).write_bytes(text)
    got = await broken(bench, JobSpec(input=name, parameters=FAST))
    assert got.failure is FailureClass.PERMANENT
    assert message in got.message


async def test_a_file_without_video_is_refused(bench: Bench) -> None:
    with av.open(str(bench.media / "a.wav"), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=48_000)
        frame = av.AudioFrame(format="s16", layout="mono", samples=4800)
        frame.sample_rate = 48_000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    got = await broken(bench, JobSpec(input="a.wav"))
    assert got.message == "the input has no video stream; nothing can be made of it"


async def test_an_output_that_cannot_be_written_is_the_nodes_fault(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> str:
        return "file:/dev/full"

    monkeypatch.setattr("services.worker.ffmpeg.argv.file_url", full)
    got = await broken(bench, JobSpec(input=SMALL, parameters=FAST))
    assert (got.failure, got.exit_status) == (FailureClass.RESOURCE, 228)
    assert "No space left on device" in got.message


async def test_an_output_root_that_is_a_file_is_refused(bench: Bench) -> None:
    bench.out.write_text("")
    result = await bench.run(JobSpec(input=SMALL))
    assert isinstance(result, Broken)
    assert "a file stands where its directory goes" in result.message


async def test_an_ffmpeg_that_is_gone_is_the_workers_fault(bench: Bench) -> None:
    gone = structs.replace(bench.settings, ffmpeg=Path("/none/ffmpeg"))
    got = await FfmpegExecutor(gone, SystemClock()).run(work(JobSpec(input=SMALL)), bench.report)
    assert isinstance(got, Broken)
    assert got.failure is FailureClass.INFRASTRUCTURE


@pytest.mark.parametrize(
    ("codec", "preset"), [(VideoCodec.H264, "medium"), (VideoCodec.HEVC, "veryslow")]
)
async def test_a_canceled_encode_leaves_no_process_and_no_file(
    bench: Bench, codec: VideoCodec, preset: str
) -> None:
    parameters = Parameters(video=Video(codec=codec, preset=preset))
    with anyio.fail_after(WAIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.run, JobSpec(input=LONG, parameters=parameters))
            await bench.report.begun.wait()
            assert len(children()) == 1
            tasks.cancel_scope.cancel()
    assert children() == []
    assert bench.files() == []


async def test_an_encode_killed_from_outside_is_another_nodes_chance(bench: Bench) -> None:
    results: list[Result] = []

    async def attempt() -> None:
        results.append(await bench.run(JobSpec(input=LONG)))

    with anyio.fail_after(WAIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attempt)
            await bench.report.begun.wait()
            (child,) = psutil.Process().children()
            os.killpg(child.pid, signal.SIGKILL)
    (got,) = results
    assert isinstance(got, Broken)
    assert (got.failure, got.exit_status) == (FailureClass.RESOURCE, -9)
    assert got.stats.cpu_s > 0
    assert bench.files() == []


async def test_progress_never_goes_back_and_comes_twice_a_second(bench: Bench) -> None:
    source = structs.replace(LONG, duration_s=3.0)
    await bench.make(JobSpec(input=source, parameters=FAST))
    samples = bench.report.samples
    percents = [sample.percent or 0.0 for sample in samples]
    assert percents == sorted(percents)
    assert percents[-1] == pytest.approx(100.0, abs=2.0)
    assert all(a.frame <= b.frame for a, b in pairwise(samples))
    assert samples[-1].frame == 90


async def test_following_an_encode_costs_the_worker_next_to_nothing(bench: Bench) -> None:
    before_s = process_time()
    made = await bench.make(JobSpec(input=structs.replace(LONG, duration_s=4.0), parameters=FAST))
    assert process_time() - before_s < 0.1 * made.stats.cpu_s


async def test_a_flood_of_words_is_followed_without_holding_the_loop_or_the_memory() -> None:
    words = Words()
    turns = 0

    def listen(data: bytes) -> None:
        words.feed(data)

    async def turn() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    with anyio.fail_after(WAIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turn)
            await run(
                ["/bin/sh", "-c", "yes 0123456789 | head -c 11000000 >&2"],
                stdout=lambda _: None,
                stderr=listen,
                grace_s=1.0,
            )
            tasks.cancel_scope.cancel()
    assert turns > 100
    assert words.lines() == ["0123456789"] * (HEAD_LINES_MAX + TAIL_LINES_MAX)


async def test_a_promoted_file_replaces_an_older_one_and_again_does_nothing(bench: Bench) -> None:
    spec = JobSpec(input=SMALL, parameters=FAST)
    bench.out.mkdir()
    (bench.out / "j1.mp4").write_text("older")
    made = await bench.run(spec)
    assert isinstance(made, Made)
    assert (bench.out / "j1.mp4").read_text() == "older"
    assert bench.files() == ["j1.mp4", "j1.mp4.j1.attempt-1.mp4"]
    await bench.executor.promote(work(spec), made)
    await bench.executor.promote(work(spec), made)
    await bench.executor.discard(work(spec))
    assert bench.files() == ["j1.mp4"]
    assert looked_at(bench.out / "j1.mp4")[0] == "h264"


async def test_discarding_removes_the_attempt_and_again_does_nothing(bench: Bench) -> None:
    spec = JobSpec(input=SMALL, parameters=FAST)
    assert isinstance(await bench.run(spec), Made)
    await bench.executor.discard(work(spec))
    await bench.executor.discard(work(spec))
    assert bench.files() == []


async def test_what_a_process_starts_ends_with_it_and_its_cpu_time_is_its_own() -> None:
    heard = bytearray()
    spin = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
    with anyio.fail_after(WAIT_S):
        ended = await run(
            ["/bin/sh", "-c", f"sleep 600 & echo $!; {spin}; exit 3"],
            stdout=heard.extend,
            stderr=heard.extend,
            grace_s=1.0,
        )
    assert ended.exit_status == 3
    assert 0.01 < ended.cpu_s < 10
    await gone(int(heard))


async def test_a_process_that_ignores_everything_is_killed() -> None:
    begun = anyio.Event()
    script = "trap '' TERM INT HUP; echo begun; while :; do sleep 600; done"

    async def attempt() -> None:
        await run(
            ["/bin/sh", "-c", script],
            stdout=lambda _: begun.set(),
            stderr=lambda _: None,
            grace_s=0.1,
        )

    with anyio.fail_after(WAIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attempt)
            await begun.wait()
            tasks.cancel_scope.cancel()
    assert children() == []


@pytest.mark.parametrize("installed", [True, False])
async def test_an_encode_dies_with_its_worker(
    installed: bool,  # noqa: FBT001 - a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not installed:
        monkeypatch.setenv("PATH", "/none")
    binding = bound_to_this_process.__wrapped__()
    assert binding[0].endswith("/setpriv") == installed
    worker = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:], start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", worker, *binding, "/bin/sleep", "600"]
    async with await anyio.open_process(command) as process:
        assert process.stdout is not None
        orphan = psutil.Process(int(await process.stdout.receive()))
        with anyio.fail_after(WAIT_S):
            while orphan.name() != "sleep":  # noqa: ASYNC110 - exec sends no signal
                await anyio.sleep(0.01)
        process.kill()
    await gone(orphan.pid)


async def test_what_runs_is_found_fast_kept_and_named(
    ffmpeg: Ffmpeg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SystemClock()
    begun_s = clock.monotonic_s()
    assert await locate(tmp_path) == ffmpeg
    assert clock.monotonic_s() - begun_s < 3.0
    monkeypatch.setattr("services.worker.ffmpeg.locate.output_of", None)
    assert await locate(tmp_path) == ffmpeg  # from the cache: nothing was run
    assert set(capabilities(ffmpeg)) >= {
        *("engine:ffmpeg", "engine:noop", "encoder:libx264", "encoder:libvpx-vp9"),
        *("codec:h264", "codec:hevc", "codec:vp9", "codec:av1", "codec:aac", "codec:opus"),
    }


async def test_a_named_ffmpeg_that_does_not_work_is_not_replaced_silently(tmp_path: Path) -> None:
    for named in ("/none/ffmpeg", "/usr/bin/true", "/etc/passwd"):
        with pytest.raises(ConfigurationError, match=f"no working ffmpeg; tried: {named}"):
            await locate(tmp_path, {ENVIRONMENT: named})


async def test_the_engine_that_does_nothing_makes_nothing(bench: Bench) -> None:
    noop: Executor = NoopExecutor()
    made = await noop.run(work(JobSpec()), bench.report)
    assert made == Made()
    await noop.promote(work(JobSpec()), Made())
    await noop.discard(work(JobSpec()))
