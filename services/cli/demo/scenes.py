"""What the demo asks for, and what must come of it."""

import msgspec
from msgspec import Struct

from events.ids import JobId
from events.job import FailureClass
from events.media import Audio, AudioCodec, Container, Output, Parameters, TestSource, Video
from events.media import VideoCodec as Codec
from events.requests import SubmitJob
from events.spec import Priority, Queue

CLIP = "clip.mp4"
TALK = "talk.mkv"
CORRUPT = "corrupt.mp4"
CLIP_S = 6.0
TALK_S = 5.0
WRONG_CODEC = "h265x"


class Expected(Struct, frozen=True, kw_only=True):
    """One file that must be there, and what it must hold."""

    path: str
    codec: Codec
    width: int
    height: int
    duration_s: float
    audio: AudioCodec = AudioCodec.AAC


class Scene(Struct, frozen=True, kw_only=True):
    """One job of the demo."""

    job: SubmitJob
    outputs: tuple[Expected, ...] = ()
    """Empty: it must fail for good."""
    raw: bool = False
    """Published as plain NATS message, without our client."""

    @property
    def job_id(self) -> JobId:
        """The job's id."""
        assert self.job.job_id is not None
        return self.job.job_id


def scenes() -> tuple[Scene, ...]:
    """Return the jobs that are accepted: every queue with every priority, and a broken input."""
    return (
        _made("live-high", Queue.LIVE, Priority.HIGH, _testing(Codec.H264)),
        _made("live-medium", Queue.LIVE, Priority.MEDIUM, _clip(Codec.H264, "veryfast")),
        _made("live-low", Queue.LIVE, Priority.LOW, _clip(Codec.HEVC, "ultrafast")),
        _ladder("default-high"),
        _made("default-medium", Queue.DEFAULT, Priority.MEDIUM, _talk(Codec.VP9), raw=True),
        _made("default-low", Queue.DEFAULT, Priority.LOW, _talk(Codec.H264)),
        _made("batch-high", Queue.BATCH, Priority.HIGH, _clip(Codec.AV1, "10")),
        _made("batch-medium", Queue.BATCH, Priority.MEDIUM, _testing(Codec.VP9)),
        _made("batch-low", Queue.BATCH, Priority.LOW, _talk(Codec.HEVC)),
        Scene(job=SubmitJob(job_id=JobId("demo-corrupt"), input=CORRUPT)),
        _made("survivor", Queue.BATCH, Priority.LOW, _long()),
    )


SURVIVOR = JobId("demo-survivor")
"""The job whose worker is killed in mid-encode."""


FAILURE = FailureClass.PERMANENT
"""How the job with the broken input must end."""
REFUSED_FIELD = "$.parameters.video.codec"
"""What the rejection of the job with the wrong codec must name."""


def refused_request() -> bytes:
    """Return a request with a codec that does not exist."""
    request = {"job_id": "demo-wrong", "parameters": {"video": {"codec": WRONG_CODEC}}}
    return msgspec.json.encode(request)


class _Recipe(Struct, frozen=True, kw_only=True):
    video: Video
    source: str | TestSource
    duration_s: float
    container: Container
    audio: AudioCodec


def _clip(codec: Codec, preset: str) -> _Recipe:
    """Make a smaller picture of the clip, with AAC in MP4."""
    return _Recipe(
        video=Video(codec=codec, width=320, height=180, preset=preset),
        source=CLIP,
        duration_s=CLIP_S,
        container=Container.MP4,
        audio=AudioCodec.AAC,
    )


def _talk(codec: Codec) -> _Recipe:
    """Make Opus in WebM or Matroska of the other file, at a bit rate."""
    return _Recipe(
        video=Video(codec=codec, width=426, height=240, bitrate_bps=300_000),
        source=TALK,
        duration_s=TALK_S,
        container=Container.WEBM if codec is Codec.VP9 else Container.MKV,
        audio=AudioCodec.OPUS,
    )


def _testing(codec: Codec) -> _Recipe:
    """Encode a picture that the worker makes itself."""
    webm = codec is Codec.VP9
    return _Recipe(
        video=Video(codec=codec, width=320, height=180),
        source=TestSource(width=640, height=360, rate=25.0, duration_s=4.0),
        duration_s=4.0,
        container=Container.WEBM if webm else Container.MP4,
        audio=AudioCodec.OPUS if webm else AudioCodec.AAC,
    )


def _long() -> _Recipe:
    """Encode for some seconds: long enough to be interrupted."""
    return _Recipe(
        video=Video(codec=Codec.H264, width=1280, height=720),
        source=TestSource(width=1280, height=720, rate=25.0, duration_s=12.0),
        duration_s=12.0,
        container=Container.MP4,
        audio=AudioCodec.AAC,
    )


def _made(
    name: str, queue: Queue, priority: Priority, recipe: _Recipe, *, raw: bool = False
) -> Scene:
    path = f"{name}.{recipe.container}"
    video = recipe.video
    assert video.codec is not None
    assert video.width is not None
    assert video.height is not None
    return Scene(
        job=SubmitJob(
            job_id=JobId(f"demo-{name}"),
            input=recipe.source,
            parameters=Parameters(
                video=video, audio=Audio(codec=recipe.audio), container=recipe.container
            ),
            outputs=(Output(path=path),),
            queue=queue,
            priority=priority,
        ),
        outputs=(
            Expected(
                path=path,
                codec=video.codec,
                width=video.width,
                height=video.height,
                duration_s=recipe.duration_s,
                audio=recipe.audio,
            ),
        ),
        raw=raw,
    )


def _ladder(name: str) -> Scene:
    """Make two sizes of the clip in one job."""
    sizes = ((640, 360, 800_000), (320, 180, 250_000))
    return Scene(
        job=SubmitJob(
            job_id=JobId(f"demo-{name}"),
            input=CLIP,
            outputs=tuple(
                Output(
                    path=f"{name}/{height}p.mp4",
                    video=Video(width=width, height=height, bitrate_bps=rate, preset="veryfast"),
                )
                for width, height, rate in sizes
            ),
            priority=Priority.HIGH,
            labels={"ladder": "2"},
        ),
        outputs=tuple(
            Expected(
                path=f"{name}/{height}p.mp4",
                codec=Codec.H264,
                width=width,
                height=height,
                duration_s=CLIP_S,
            )
            for width, height, _ in sizes
        ),
    )
