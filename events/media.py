"""Media values inside facts and requests: what to read, what to make of it, what came out.

Lengths are pixels, rates frames per second, durations seconds, sizes bytes, bit rates bits per
second; the unit is the last word of a field's name wherever the field's name does not carry it.
"""

from enum import StrEnum
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from events.ids import END_OF_TEXT


class VideoCodec(StrEnum):
    """A video coding format; which encoder makes it is the node's affair unless asked for."""

    H264 = "h264"
    HEVC = "hevc"
    VP9 = "vp9"
    AV1 = "av1"


class AudioCodec(StrEnum):
    """An audio coding format."""

    AAC = "aac"
    OPUS = "opus"
    NONE = "none"
    """No audio, whatever the input has."""


class Container(StrEnum):
    """A file format; the value is also the extension of an output without a path."""

    MP4 = "mp4"
    MKV = "mkv"
    WEBM = "webm"


Pixels: TypeAlias = Annotated[int, Meta(ge=16, le=16384, multiple_of=2)]
FramesPerSecond: TypeAlias = Annotated[float, Meta(gt=0, le=480)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0)]
PositiveSeconds: TypeAlias = Annotated[float, Meta(gt=0, le=7 * 86400)]
BitsPerSecond: TypeAlias = Annotated[int, Meta(ge=1_000, le=1_000_000_000)]
Path: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f]+" + END_OF_TEXT)
]
"""A path or URL; workers confine paths to their media root and refuse what leads out of it."""
EncoderName: TypeAlias = Annotated[str, Meta(pattern="^[a-z0-9_][a-z0-9_-]{0,39}" + END_OF_TEXT)]


class _Value(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Plain values: equal when their fields are."""


class Video(_Value, frozen=True):
    """What the video of an output shall be; what is None is kept as in the input."""

    codec: VideoCodec | None = None
    """None: the encoder's, else the scenario's, else h264."""
    encoder: EncoderName | None = None
    """A named ffmpeg encoder (`libx264`, `hevc_nvenc`); None: the node's best for the codec."""
    width: Pixels | None = None
    height: Pixels | None = None
    rate: FramesPerSecond | None = None
    bitrate_bps: BitsPerSecond | None = None
    """Target bit rate; None: constant quality by `crf`."""
    crf: Annotated[int, Meta(ge=0, le=63)] | None = None
    """Constant rate factor, lower is better; None and no bit rate: the codec's usual value."""
    preset: Annotated[str, Meta(pattern="^[a-z0-9]{1,16}" + END_OF_TEXT)] | None = None
    """Speed of the encoder in its own words (`veryfast`, `10`); None: the encoder's usual value."""


class Audio(_Value, frozen=True):
    """What the audio of an output shall be."""

    codec: AudioCodec | None = None
    """None: the usual one of the container."""
    bitrate_bps: BitsPerSecond = 128_000
    channels: Annotated[int, Meta(ge=1, le=8)] | None = None
    sample_rate_hz: Annotated[int, Meta(ge=8_000, le=192_000)] | None = None


class Parameters(_Value, frozen=True):
    """How to encode; an output may override `video`, `audio` and `container` for itself."""

    video: Video | None = None
    audio: Audio | None = None
    """None: audio of the input is encoded as the container's usual format when there is any."""
    container: Container | None = None
    start_s: Seconds = 0.0
    """Where to begin in the input."""
    duration_s: PositiveSeconds | None = None
    """How much to encode; None: to the end of the input."""


class TestSource(_Value, frozen=True):
    """Input made by the worker: `testsrc2` with noise, and a tone; needs no file."""

    width: Pixels = 1280
    height: Pixels = 720
    rate: FramesPerSecond = 30.0
    duration_s: Annotated[float, Meta(gt=0, le=86400)] = 10.0
    noise: Annotated[int, Meta(ge=0, le=100)] = 10
    """Strength of the noise, 0 to 100; 0 compresses unrealistically well."""
    audio: bool = True


Input: TypeAlias = Path | TestSource


class Output(_Value, frozen=True):
    """One file to make; what is None comes from the job's parameters."""

    path: Path | None = None
    """Below the worker's output root; None: named after the job."""
    container: Container | None = None
    video: Video | None = None
    audio: Audio | None = None


class MadeFile(_Value, frozen=True):
    """One file an attempt has made."""

    path: str
    """Its final name, which it has once the job is promoted."""
    size_bytes: Annotated[int, Meta(ge=0)]
    duration_s: Seconds = 0.0


class EncodeStats(_Value, frozen=True):
    """What an attempt took and gave."""

    wall_s: Seconds = 0.0
    cpu_s: Seconds = 0.0
    """User and system time of the encoder's processes."""
    frames: Annotated[int, Meta(ge=0)] = 0
    fps: float = 0.0
    speed: float = 0.0
    """Seconds of media made per second of time."""
    encoder: str = ""
