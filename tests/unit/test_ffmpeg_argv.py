from pathlib import Path

import pytest

from events.ids import JobId
from events.media import Audio, Output, Parameters, TestSource, Video, VideoCodec
from events.spec import JobSpec, ResourceLimits
from services.worker.ffmpeg.argv import FILE_FORMATS, Target, arguments, rational
from services.worker.ffmpeg.encoders import ENCODERS, Unusable, encoder_for, video_options
from services.worker.ffmpeg.plan import plan

COMMON = [
    *("-nostdin", "-hide_banner", "-y", "-loglevel", "level+warning"),
    *("-progress", "pipe:1", "-nostats", "-stats_period", "0.5"),
]
SOFTWARE = ("libx264", "libx265", "libvpx-vp9", "libsvtav1")


def argv(spec: JobSpec, *, opened: str = "", audio: bool = False, strict: bool = True) -> list[str]:
    planned = plan(spec, JobId("j1"))
    targets = [
        Target(
            rendition=rendition,
            encoder=encoder_for(rendition.video.encoder, rendition.codec, SOFTWARE),
            path=Path("/out") / rendition.path,
        )
        for rendition in planned.renditions
    ]
    return arguments(planned, targets, opened=opened, audio=audio, strict=strict)


def test_the_empty_specification_is_a_noisy_picture_and_a_tone() -> None:
    assert argv(JobSpec()) == [
        *COMMON,
        *("-xerror", "-f", "lavfi", "-i"),
        "testsrc2=size=1280x720:rate=30:duration=10,noise=alls=10:allf=t",
        *("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=10"),
        *("-map", "0:V:0", "-map", "1:a:0", "-c:v", "libx264", "-pix_fmt", "yuv420p"),
        *("-preset", "medium", "-crf", "23", "-c:a", "aac", "-b:a", "128000"),
        *("-movflags", "+faststart", "-f", "mp4", "file:/out/j1.mp4"),
    ]


def test_a_silent_test_source_begins_where_asked() -> None:
    spec = JobSpec(
        input=TestSource(width=64, height=48, rate=12.5, duration_s=4, noise=0, audio=False),
        parameters=Parameters(start_s=1.5, duration_s=2),
    )
    got = argv(spec)
    assert "testsrc2=size=64x48:rate=25/2:duration=3.5,trim=start=1.5,setpts=PTS-STARTPTS" in got
    assert "-map" in got
    assert "1:a:0" not in got
    assert "-c:a" not in got


def test_a_ladder_of_a_file_is_one_process_with_spans_scales_rates_and_threads() -> None:
    spec = JobSpec(
        input="in.mkv",
        parameters=Parameters(start_s=5, duration_s=1.25, audio=Audio(channels=2)),
        outputs=(
            Output(path="-f.mp4", video=Video(width=640, height=360, rate=29.97)),
            Output(path="a:b.webm", video=Video(codec=VideoCodec.VP9, height=180, preset="fast")),
        ),
        limits=ResourceLimits(cpu_threads=2),
    )
    assert argv(spec, opened="file:/media/in.mkv", audio=True, strict=False) == [
        *COMMON,
        *("-filter_threads", "2", "-threads", "2"),
        *("-protocol_whitelist", "file", "-format_whitelist", FILE_FORMATS),
        *("-ss", "5", "-t", "1.25", "-i", "file:/media/in.mkv"),
        *("-map", "0:V:0", "-map", "0:a:0", "-c:v", "libx264", "-pix_fmt", "yuv420p"),
        *("-preset", "medium", "-crf", "23", "-threads:v", "2"),
        *("-vf", "fps=fps=30000/1001,scale=w=640:h=360:flags=bicubic,setsar=1"),
        *("-c:a", "aac", "-b:a", "128000", "-ac", "2"),
        *("-movflags", "+faststart", "-f", "mp4", "file:/out/-f.mp4"),
        *("-map", "0:V:0", "-map", "0:a:0", "-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p"),
        *("-row-mt", "1", "-deadline", "good", "-cpu-used", "4", "-crf", "32", "-b:v", "0"),
        *("-threads:v", "2", "-vf", "scale=w=-2:h=180:flags=bicubic,setsar=1"),
        *("-c:a", "libopus", "-b:a", "128000", "-ac", "2", "-f", "webm", "file:/out/a:b.webm"),
    ]


def test_an_url_is_fetched_within_time_and_may_not_read_files() -> None:
    got = argv(JobSpec(input="https://h/x.mp4"), opened="https://h/x.mp4")
    at = got.index("-protocol_whitelist")
    assert got[at : at + 6] == [
        *("-protocol_whitelist", "http,https,tcp,tls,crypto,data"),
        *("-rw_timeout", "30000000", "-i", "https://h/x.mp4"),
    ]
    assert "file" not in got[at + 1].split(",")


def test_odd_sizes_of_an_input_lose_one_line() -> None:
    got = argv(JobSpec(input="x.mp4"), opened="file:/x.mp4")
    assert got[got.index("-vf") + 1] == "crop=w=trunc(iw/2)*2:h=trunc(ih/2)*2:x=0:y=0"


def test_hevc_in_mp4_is_tagged_for_apple_players() -> None:
    got = argv(JobSpec(scenario="720p30-hevc"))
    assert got[got.index("-tag:v") + 1] == "hvc1"


@pytest.mark.parametrize(
    ("name", "video", "options"),
    [
        ("libx264", Video(preset="veryfast", bitrate_bps=500_000), "-preset veryfast -b:v 500000"),
        ("libsvtav1", Video(), "-preset 8 -crf 35"),
        ("libsvtav1", Video(preset="ultrafast", crf=50), "-preset 12 -crf 50"),
        ("libsvtav1", Video(preset="13"), "-preset 13 -crf 35"),
        (
            "libvpx-vp9",
            Video(preset="ultrafast"),
            "-row-mt 1 -deadline realtime -cpu-used 8 -crf 32 -b:v 0",
        ),
        ("h264_nvenc", Video(preset="p7"), "-preset p7 -cq 28 -rc vbr -b:v 0"),
        ("nosuch", Video(preset="x1", crf=9), "-preset x1 -crf 9"),
    ],
)
def test_every_encoder_is_spoken_to_in_its_own_words(name: str, video: Video, options: str) -> None:
    got = video_options(video, name, None)
    assert got == ["-c:v", name, "-pix_fmt", "yuv420p", *options.split()]


def test_x265_is_told_its_threads_by_name() -> None:
    assert video_options(Video(crf=20, preset="slow"), "libx265", 3) == [
        *("-c:v", "libx265", "-pix_fmt", "yuv420p", "-preset", "slow", "-crf", "20"),
        *("-x265-params", "log-level=error:pools=3", "-threads:v", "3"),
    ]


@pytest.mark.parametrize(("threads", "level"), [(1, 1), (2, 2), (3, 2), (4, 3), (16, 5), (99, 6)])
def test_svt_av1_is_told_its_threads_as_a_level(threads: int, level: int) -> None:
    got = video_options(Video(), "libsvtav1", threads)
    assert got[-4:] == ["-svtav1-params", f"lp={level}", "-threads:v", str(threads)]


def test_a_limit_nobody_can_hold_an_encoder_to_is_refused() -> None:
    with pytest.raises(Unusable, match="cpu_threads cannot be enforced on encoder 'nosuch'"):
        video_options(Video(encoder="nosuch"), "nosuch", 1)


def test_words_an_encoder_does_not_know_are_refused_with_those_it_does() -> None:
    with pytest.raises(Unusable, match="libx264 has no preset 'p7'; allowed: ultrafast, superfast"):
        video_options(Video(preset="p7"), "libx264", None)
    with pytest.raises(Unusable, match="libx264 has no crf 60; allowed: 0 to 51"):
        video_options(Video(crf=60), "libx264", None)


def test_software_comes_first_and_a_missing_codec_is_named() -> None:
    assert encoder_for(None, VideoCodec.H264, ("h264_nvenc", "libx264")) == "libx264"
    assert encoder_for(None, VideoCodec.H264, ("h264_nvenc",)) == "h264_nvenc"
    assert encoder_for("nosuch", VideoCodec.H264, ()) == "nosuch"
    with pytest.raises(Unusable, match="no encoder for av1 runs on this node; it has: libx264"):
        encoder_for(None, VideoCodec.AV1, ("libx264",))


def test_every_default_preset_is_one_the_encoder_has() -> None:
    assert [name for name, one in ENCODERS.items() if one.preset not in one.presets] == []


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (30.0, "30"),
        (25.0, "25"),
        (12.5, "25/2"),
        (23.976, "24000/1001"),
        (23.98, "24000/1001"),
        (29.97, "30000/1001"),
        (59.94, "60000/1001"),
        (119.88, "120000/1001"),
        (0.5, "1/2"),
        (0.1, "1/10"),
        (480.0, "480"),
    ],
)
def test_rates_are_exact(rate: float, text: str) -> None:
    assert rational(rate) == text
