"""What the executor says when an encode cannot be, and leaves when it is ended."""

# PyAV declares `Packet` generic and then uses it without an argument
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

import os
import signal
from pathlib import Path

import anyio
import av
import psutil
import pytest
from msgspec import structs

from events.job import FailureClass
from events.media import (
    Parameters,
    Video,
    VideoCodec,
)
from events.spec import JobSpec
from services.clock import SystemClock
from services.worker.ffmpeg.executor import FfmpegExecutor
from services.worker.port import Broken, Made, Result
from tests.acceptance.ffmpeg.encoding import (
    FAST,
    LONG,
    SMALL,
    WAIT_S,
    Bench,
    broken,
    children,
    work,
)

pytestmark = [pytest.mark.anyio, pytest.mark.acceptance]


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
