"""What the executor makes with the real ffmpeg, looked at with another decoder."""

# PyAV declares `Packet` generic and then uses it without an argument
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from fractions import Fraction
from itertools import pairwise
from time import process_time

import av
import pytest
from msgspec import structs

from events.media import (
    Audio,
    AudioCodec,
    Output,
    Parameters,
    Video,
    VideoCodec,
)
from events.spec import JobSpec, ResourceLimits
from events.telemetry import OutputStream
from services.worker.noop import NoopExecutor
from services.worker.port import Executor, Made
from tests.acceptance.ffmpeg.encoding import FAST, LONG, SMALL, Bench, Told, looked_at, work

pytestmark = [pytest.mark.anyio, pytest.mark.acceptance]


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


async def test_the_engine_that_does_nothing_makes_nothing(bench: Bench) -> None:
    noop: Executor = NoopExecutor()
    made = await noop.run(work(JobSpec()), bench.report)
    assert made == Made()
    await noop.promote(work(JobSpec()), Made())
    await noop.discard(work(JobSpec()))
