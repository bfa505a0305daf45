import math
from datetime import UTC, datetime

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
from events.requests import SubmitJob
from events.spec import Engine, Priority, Queue
from services.cli.jobs.request import (
    WrongOption,
    bits_per_second,
    checked,
    numbered,
    payload_of,
    pixels,
)


def job(**options: object) -> SubmitJob:
    return checked(payload_of(options))


def refusal(**options: object) -> str:
    with pytest.raises(WrongOption) as caught:
        job(**options)
    return str(caught.value)


def test_no_option_is_an_empty_request() -> None:
    assert payload_of({"codec": None, "requires": (), "labels": ()}) == {}


def test_every_option_lands_in_its_field() -> None:
    assert job(
        scenario="720p30-h264",
        input="in/clip.mov",
        encoder="libx264",
        size="640x360",
        rate=25.0,
        duration=12.5,
        bitrate="2500k",
        preset="veryfast",
        audio="opus:96k",
        container="mkv",
        engine="ffmpeg",
        queue="live",
        priority="high",
        tenant="acme",
        labels=("show=news", "ep=7"),
        requires=("gpu",),
        timeout=60.0,
        attempts_max=1,
        job_id="job-1",
        idempotency_key="k",
    ) == SubmitJob(
        scenario="720p30-h264",
        input="in/clip.mov",
        parameters=Parameters(
            video=Video(
                encoder="libx264",
                width=640,
                height=360,
                rate=25.0,
                bitrate_bps=2_500_000,
                preset="veryfast",
            ),
            audio=Audio(codec=AudioCodec.OPUS, bitrate_bps=96_000),
            container=Container.MKV,
            duration_s=12.5,
        ),
        engine=Engine.FFMPEG,
        queue=Queue.LIVE,
        priority=Priority.HIGH,
        tenant="acme",
        labels={"show": "news", "ep": "7"},
        requires=("gpu",),
        timeout_s=60.0,
        attempts_max=1,
        job_id=JobId("job-1"),
        idempotency_key="k",
    )


def test_what_a_job_waits_for_and_when_it_is_due_are_options() -> None:
    assert job(
        depends_on=("a", "b"), not_before="2026-01-31T12:00:00Z", deadline="2026-01-31T13:00:00Z"
    ) == SubmitJob(
        depends_on=(JobId("a"), JobId("b")),
        not_before=datetime(2026, 1, 31, 12, tzinfo=UTC),
        deadline=datetime(2026, 1, 31, 13, tzinfo=UTC),
    )


def test_a_test_source_is_given_as_json() -> None:
    assert job(input='{"duration_s": 4}').input == TestSource(duration_s=4.0)


def test_a_rendition_has_what_the_job_has_and_what_it_says_itself() -> None:
    outputs = job(
        codec="hevc", crf=30, output_files=("a.mp4", "b.mp4,size=320x180,bitrate=300k,audio=aac")
    ).outputs
    assert outputs == (
        Output(path="a.mp4"),
        Output(
            path="b.mp4",
            video=Video(codec=VideoCodec.HEVC, crf=30, width=320, height=180, bitrate_bps=300_000),
            audio=Audio(codec=AudioCodec.AAC),
        ),
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"codec": "h26x"},
            "--codec: Invalid enum value 'h26x'; given: \"h26x\"; allowed: h264, hevc, vp9, av1",
        ),
        ({"size": "640"}, "--size: given: '640'; allowed: WIDTHxHEIGHT, as 1280x720"),
        ({"bitrate": "fast"}, "--bitrate: given: 'fast'; allowed: a number, as 2500k or 4M"),
        ({"audio": "aac:x"}, "--audio: given: 'x'; allowed: a number, as 2500k or 4M"),
        ({"labels": ("zone",)}, "--label: given: 'zone'; allowed: KEY=VALUE"),
        (
            {"output_files": ("a.mp4,speed=3",)},
            (
                "--output-file: given: speed=…; allowed: "
                "codec, encoder, size, rate, bitrate, crf, preset, audio, container"
            ),
        ),
        ({"output_files": ("a.mp4,crf=x",)}, "--output-file: given: 'x'; allowed: a number"),
        ({"output_files": ("a.mp4,rate=nan",)}, "--output-file: given: 'nan'; allowed: a number"),
        ({"duration": math.nan}, "--duration: given: nan; allowed: a finite number"),
        ({"timeout": math.inf}, "--timeout: given: inf; allowed: a finite number"),
        ({"crf": 2**70}, f"--crf: given: {2**70}; allowed: a whole number up to {10**12}"),
        (
            {"size": f"{10**20}x2"},
            f"--size: given: '{10**20}x2'; allowed: WIDTHxHEIGHT, as 1280x720",
        ),
    ],
)
def test_a_refusal_speaks_of_the_option(options: dict[str, object], words: str) -> None:
    assert refusal(**options) == words


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"size": "15x20"}, "--size: "),
        ({"audio": "mp3"}, "--audio: "),
        ({"job_id": "a.b"}, "--id: "),
        ({"output_files": ("a.mp4,crf=99",)}, "--output-file: "),
        ({"input": '{"duration": 4}'}, "--input: "),
        ({"input": "{"}, "--input: "),
        ({"scenario": "tiny"}, "SCENARIO: "),
        ({"timeout": 0.0}, "--timeout: "),
        ({"attempts_max": 0}, "--attempts-max: "),
        ({"tenant": "a b"}, "--tenant: "),
        ({"depends_on": ("a b",)}, "--depends-on: "),
        ({"not_before": "noon"}, "--not-before: "),
        ({"deadline": "noon"}, "--deadline: "),
    ],
)
def test_a_refusal_of_a_field_names_its_option(options: dict[str, object], option: str) -> None:
    assert refusal(**options).startswith(option)


def test_one_of_many_has_its_own_id_and_key() -> None:
    payload = {"job_id": "a", "idempotency_key": "k", "engine": "noop"}
    assert numbered(payload, 7) == {"job_id": "a-7", "idempotency_key": "k-7", "engine": "noop"}
    assert payload["job_id"] == "a"


def test_rates_and_sizes_are_read_exactly() -> None:
    assert [bits_per_second(text, "x") for text in ("800", "2.5k", "4M")] == [800, 2500, 4_000_000]
    assert pixels("1920x1080", "x") == (1920, 1080)
