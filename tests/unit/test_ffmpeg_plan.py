import os
from pathlib import Path

import pytest

from events.ids import JobId
from events.media import (
    Audio,
    AudioCodec,
    Container,
    Output,
    Parameters,
    TestSource,
    Video,
    VideoCodec,
)
from events.spec import JobSpec, ResourceLimits
from services.worker.ffmpeg import paths
from services.worker.ffmpeg.encoders import Unusable
from services.worker.ffmpeg.plan import FileSource, Plan, Rendition, UrlSource, over, plan

JOB = JobId("j1")


def asking(video: Video, audio: Audio | None = None) -> JobSpec:
    return JobSpec(parameters=Parameters(video=video, audio=audio))


def made(spec: JobSpec) -> Rendition:
    (rendition,) = plan(spec, JOB).renditions
    return rendition


def test_an_empty_specification_is_a_10_s_720p30_h264_clip_named_after_the_job() -> None:
    assert plan(JobSpec(), JOB) == Plan(
        source=TestSource(width=1280, height=720, rate=30.0, duration_s=10.0),
        start_s=0.0,
        duration_s=10.0,
        renditions=(
            Rendition(
                path="j1.mp4",
                container=Container.MP4,
                codec=VideoCodec.H264,
                video=Video(),
                audio_codec=AudioCodec.AAC,
                audio=Audio(),
            ),
        ),
        threads=None,
    )


def test_a_scenario_gives_size_rate_and_codec_of_source_and_output() -> None:
    planned = plan(JobSpec(scenario="640x360@25-vp9"), JOB)
    assert planned.source == TestSource(width=640, height=360, rate=25.0, duration_s=10.0)
    assert planned.renditions[0].video == Video(
        codec=VideoCodec.VP9, width=640, height=360, rate=25.0
    )


def test_parameters_override_the_scenario_field_by_field() -> None:
    spec = JobSpec(
        scenario="1080p30-hevc",
        parameters=Parameters(video=Video(height=720, crf=20), duration_s=2.5),
    )
    planned = plan(spec, JOB)
    assert planned.source == TestSource(width=1920, height=720, rate=30.0, duration_s=2.5)
    assert planned.renditions[0].video == Video(
        codec=VideoCodec.HEVC, width=1920, height=720, rate=30.0, crf=20
    )


def test_outputs_override_parameters_and_unnamed_ones_are_numbered() -> None:
    spec = JobSpec(
        scenario="720p30-h264",
        parameters=Parameters(video=Video(preset="fast"), container=Container.MKV),
        outputs=(Output(), Output(video=Video(width=640, height=360)), Output(path="x/y.mp4")),
    )
    got = plan(spec, JOB).renditions
    assert [r.path for r in got] == ["j1-1.mkv", "j1-2.mkv", "x/y.mp4"]
    assert [r.container for r in got] == [Container.MKV, Container.MKV, Container.MP4]
    assert [(r.video.width, r.video.preset) for r in got] == [
        (1280, "fast"),
        (640, "fast"),
        (1280, "fast"),
    ]


def test_another_codec_drops_what_was_said_in_the_words_of_the_old_one() -> None:
    base = Video(encoder="libx264", crf=20, preset="slow", width=640)
    assert over(base, Video(codec=VideoCodec.AV1)) == Video(codec=VideoCodec.AV1, width=640)
    assert over(base, Video(codec=VideoCodec.AV1, crf=40)) == Video(
        codec=VideoCodec.AV1, width=640, crf=40
    )


def test_a_named_encoder_says_the_codec() -> None:
    assert over(Video(), Video(encoder="libx265")).codec is VideoCodec.HEVC
    assert made(asking(Video(encoder="nosuch"))).codec is VideoCodec.H264


def test_an_explicit_codec_overrides_the_scenario() -> None:
    spec = JobSpec(
        scenario="640x360@25-hevc", parameters=Parameters(video=Video(codec=VideoCodec.H264))
    )
    assert made(spec).codec is VideoCodec.H264
    assert made(spec).path == "j1.mp4"


@pytest.mark.parametrize(
    ("codec", "path", "audio"),
    [
        (VideoCodec.H264, "j1.mp4", AudioCodec.AAC),
        (VideoCodec.HEVC, "j1.mp4", AudioCodec.AAC),
        (VideoCodec.VP9, "j1.webm", AudioCodec.OPUS),
        (VideoCodec.AV1, "j1.mkv", AudioCodec.OPUS),
    ],
)
def test_every_codec_has_its_usual_container_and_audio(
    codec: VideoCodec, path: str, audio: AudioCodec
) -> None:
    got = made(asking(Video(codec=codec)))
    assert (got.path, got.audio_codec) == (path, audio)


def test_audio_without_a_codec_becomes_the_one_its_container_carries() -> None:
    spec = asking(Video(codec=VideoCodec.VP9), Audio(bitrate_bps=64_000))
    assert made(spec).audio_codec is AudioCodec.OPUS
    assert made(spec).audio.bitrate_bps == 64_000


def test_audio_that_a_container_cannot_carry_is_refused() -> None:
    with pytest.raises(Unusable, match="webm cannot hold aac; allowed: none, opus"):
        made(asking(Video(codec=VideoCodec.VP9), Audio(codec=AudioCodec.AAC)))


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ("a.mp4", FileSource("a.mp4")),
        ("a:b.mp4", FileSource("a:b.mp4")),
        ("-f.mp4", FileSource("-f.mp4")),
        ("concat:a|b", FileSource("concat:a|b")),
        ("file:///m/a.mp4", FileSource("/m/a.mp4")),
        ("file:a.mp4", FileSource("a.mp4")),
        ("HTTPS://h/x?y=1", UrlSource("HTTPS://h/x?y=1")),
    ],
)
def test_an_input_is_a_path_unless_its_scheme_is_known(given: str, source: object) -> None:
    assert plan(JobSpec(input=given), JOB).source == source


def test_a_span_of_a_test_source_ends_with_it() -> None:
    spec = JobSpec(
        input=TestSource(duration_s=5.0), parameters=Parameters(start_s=2.0, duration_s=60.0)
    )
    assert plan(spec, JOB).duration_s == 3.0
    assert plan(JobSpec(parameters=Parameters(start_s=2.0)), JOB).duration_s == 10.0


def test_a_file_is_read_to_its_end_and_threads_are_the_limits() -> None:
    planned = plan(JobSpec(input="a.mp4", limits=ResourceLimits(cpu_threads=3)), JOB)
    assert (planned.duration_s, planned.threads) == (None, 3)


def _refused(spec: JobSpec) -> str:
    with pytest.raises(Unusable) as refused:
        plan(spec, JOB)
    return str(refused.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            JobSpec(input="rtmp://h/a"),
            "input 'rtmp://h/a' has scheme 'rtmp'; allowed: a path, file, http, https",
        ),
        (
            JobSpec(outputs=(Output(path="http://h/x.mp4"),)),
            "output 'http://h/x.mp4' is a URL; allowed: a path below the output root",
        ),
        (
            JobSpec(outputs=(Output(path="a/../../x.mp4"),)),
            "output 'a/../../x.mp4' leads out of the output root",
        ),
        (
            JobSpec(outputs=(Output(path="a/", container=Container.MP4),)),
            "output 'a/' is a directory; give a file name",
        ),
        (
            JobSpec(outputs=(Output(path="x.avi"),)),
            (
                "output 'x.avi' does not tell its container; allowed: .mp4, .m4v, .mkv, .webm, "
                "or give `container`"
            ),
        ),
        (
            JobSpec(outputs=(Output(path="x.mp4"), Output(path="./x.mp4"))),
            "two outputs are named 'x.mp4'; give each its own name",
        ),
        (
            JobSpec(outputs=(Output(path="x.webm"),)),
            "webm cannot hold h264; allowed: av1, vp9",
        ),
        (
            JobSpec(parameters=Parameters(video=Video(codec=VideoCodec.VP9, encoder="libx264"))),
            "encoder libx264 makes h264, not vp9; name one of them, or two that agree",
        ),
        (
            JobSpec(parameters=Parameters(audio=Audio(sample_rate_hz=192_000))),
            (
                "aac has no sample rate 192000 Hz; allowed: 8000, 11025, 12000, 16000, 22050, "
                "24000, 32000, 44100, 48000, 88200, 96000"
            ),
        ),
        (
            JobSpec(input=TestSource(duration_s=2.0), parameters=Parameters(start_s=2.0)),
            "start_s 2 is not before the end of the test source; allowed: below 2",
        ),
    ],
)
def test_what_cannot_be_made_is_refused_by_name(spec: JobSpec, message: str) -> None:
    assert _refused(spec) == message


def _rendition(path: str) -> Rendition:
    return Rendition(
        path=path,
        container=Container.MP4,
        codec=VideoCodec.H264,
        video=Video(),
        audio_codec=AudioCodec.AAC,
        audio=Audio(),
    )


class TestPaths:
    def test_no_link_leads_an_input_out_of_its_root(self, tmp_path: Path) -> None:
        root = tmp_path / "in"
        root.mkdir()
        (tmp_path / "secret").write_text("x")
        (root / "link").symlink_to(tmp_path / "secret")
        (root / "inside").write_text("y")
        (root / "good").symlink_to("inside")
        for given in ("link", "../secret", str(tmp_path / "secret"), "a/../../secret"):
            with pytest.raises(Unusable, match="leads out of"):
                paths.find_input(root, given)
        assert paths.find_input(root, "good") == root / "inside"
        assert paths.find_input(root, str(root / "inside")) == root / "inside"

    def test_only_regular_files_are_inputs(self, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to("loop")
        os.mkfifo(tmp_path / "pipe")
        for given, message in (
            ("none", "no such file"),
            (".", "is a directory"),
            ("pipe", "is a device or a pipe"),
            ("loop", "cannot be resolved"),
        ):
            with pytest.raises(Unusable, match=message):
                paths.find_input(tmp_path, given)

    def test_no_link_leads_an_output_out_of_its_root(self, tmp_path: Path) -> None:
        root = tmp_path / "out"
        root.mkdir()
        (root / "away").symlink_to(tmp_path)
        with pytest.raises(Unusable, match="leads out of"):
            paths.place(root, _rendition("away/x.mp4"), job=JOB, attempt=1)

    def test_attempts_have_names_of_their_own_next_to_the_final_one(self, tmp_path: Path) -> None:
        place = paths.place(tmp_path, _rendition("a/x.mp4"), job=JOB, attempt=2)
        assert place == paths.Place(
            final=tmp_path / "a/x.mp4", attempt=tmp_path / "a/x.mp4.j1.attempt-2.mp4"
        )

    def test_a_name_that_leaves_no_room_for_the_attempt_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(Unusable, match="too long; allowed: 238 bytes"):
            paths.place(tmp_path, _rendition("x" * 250 + ".mp4"), job=JOB, attempt=1)

    def test_two_outputs_that_are_one_file_by_a_link_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").symlink_to("a")
        places = [
            paths.place(tmp_path, _rendition(path), job=JOB, attempt=1)
            for path in ("a/x.mp4", "b/x.mp4")
        ]
        with pytest.raises(Unusable, match="the same file by way of a link"):
            paths.prepare(tmp_path, places)

    def test_what_stands_in_the_way_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        (tmp_path / "dir.mp4").mkdir()
        for path, message in (
            ("file/x.mp4", "a file stands where its directory goes"),
            ("dir.mp4", "is a directory"),
        ):
            place = paths.place(tmp_path, _rendition(path), job=JOB, attempt=1)
            with pytest.raises(Unusable, match=message):
                paths.prepare(tmp_path, [place])

    def test_promotion_replaces_and_repeats_and_misses_what_is_gone(self, tmp_path: Path) -> None:
        place = paths.place(tmp_path, _rendition("x.mp4"), job=JOB, attempt=1)
        place.final.write_text("old")
        place.attempt.write_text("new")
        paths.promote(place)
        paths.promote(place)
        assert place.final.read_text() == "new"
        place.final.unlink()
        with pytest.raises(FileNotFoundError):
            paths.promote(place)
