"""What each ffmpeg encoder is called, makes, and calls its own settings.

One table: adding an encoder is one entry. A preset is given in x264's words or in the encoder's
own; where they differ, `presets` translates. Rate factors are each encoder's own scale.

Source: ffmpeg 9.0.2 `-h encoder=<name>`; SVT-AV1 and libvpx user guides for presets.
"""

from collections.abc import Collection, Mapping

from msgspec import Struct

from events.media import AudioCodec, Video, VideoCodec

X264_PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
)


class Unusable(ValueError):
    """What was asked cannot be made; the message says what was given and what is allowed."""


Options = tuple[str, ...]


class Encoder(Struct, frozen=True, kw_only=True):
    """One video encoder of ffmpeg."""

    name: str
    codec: VideoCodec
    quality: str
    """The option that takes a constant rate factor."""
    crf: int
    """Rate factor when nothing is asked for."""
    crf_max: int
    preset: str
    """Preset when nothing is asked for; a key of `presets`."""
    presets: Mapping[str, Options]
    """From each allowed preset to the options it stands for."""
    always: Options = ()
    with_crf: Options = ()
    """What constant quality needs beside the factor."""
    pixel_format: str = "yuv420p"


def _named(presets: Collection[str]) -> dict[str, Options]:
    return {preset: ("-preset", preset) for preset in presets}


def _numbered(words: Mapping[str, int], numbers: range) -> dict[str, Options]:
    presets: dict[str, Options] = {str(number): ("-preset", str(number)) for number in numbers}
    return presets | {word: presets[str(number)] for word, number in words.items()}


_SVT_NUMBERS: dict[str, int] = dict(
    zip(X264_PRESETS, (12, 11, 10, 9, 8, 7, 5, 4, 2, 0), strict=True)
)
_NVENC_NUMBERS: dict[str, int] = dict(
    zip(X264_PRESETS, (1, 1, 2, 3, 3, 4, 5, 6, 7, 7), strict=True)
)
_VP9_SPEEDS: dict[str, int] = dict(zip(X264_PRESETS, (8, 7, 6, 5, 4, 2, 1, 1, 0, 0), strict=True))
_VP9_REALTIME_FROM = 6
"""libvpx allows speeds above 5 in real-time mode only."""


def _vp9(speed: int) -> Options:
    deadline = "realtime" if speed >= _VP9_REALTIME_FROM else "good"
    return ("-deadline", deadline, "-cpu-used", str(speed))


def _nvenc(codec: VideoCodec) -> Encoder:
    words = {word: ("-preset", f"p{number}") for word, number in _NVENC_NUMBERS.items()}
    own = {f"p{number}": ("-preset", f"p{number}") for number in range(1, 8)}
    return Encoder(
        name=f"{codec}_nvenc",
        codec=codec,
        quality="-cq",
        crf=28,
        crf_max=51,
        preset="medium",
        presets=words | own,
        with_crf=("-rc", "vbr", "-b:v", "0"),
    )


def _qsv(codec: VideoCodec) -> Encoder:
    return Encoder(
        name=f"{codec}_qsv",
        codec=codec,
        quality="-global_quality",
        crf=25,
        crf_max=51,
        preset="medium",
        presets=_named(X264_PRESETS[2:9]),
        pixel_format="nv12",
    )


_ALL = (
    Encoder(
        name="libx264",
        codec=VideoCodec.H264,
        quality="-crf",
        crf=23,
        crf_max=51,
        preset="medium",
        presets=_named(X264_PRESETS),
    ),
    Encoder(
        name="libx265",
        codec=VideoCodec.HEVC,
        quality="-crf",
        crf=28,
        crf_max=51,
        preset="medium",
        presets=_named(X264_PRESETS),
    ),
    Encoder(
        name="libvpx-vp9",
        codec=VideoCodec.VP9,
        quality="-crf",
        crf=32,
        crf_max=63,
        preset="medium",
        presets={word: _vp9(speed) for word, speed in _VP9_SPEEDS.items()}
        | {str(speed): _vp9(speed) for speed in range(9)},
        always=("-row-mt", "1"),
        with_crf=("-b:v", "0"),
    ),
    Encoder(
        name="libsvtav1",
        codec=VideoCodec.AV1,
        quality="-crf",
        crf=35,
        crf_max=63,
        preset="8",
        presets=_numbered(_SVT_NUMBERS, range(14)),
    ),
    *(_nvenc(codec) for codec in (VideoCodec.H264, VideoCodec.HEVC, VideoCodec.AV1)),
    *(_qsv(codec) for codec in (VideoCodec.H264, VideoCodec.HEVC, VideoCodec.AV1)),
)
ENCODERS: Mapping[str, Encoder] = {encoder.name: encoder for encoder in _ALL}
"""By name; software first, for it makes the same on every node and has no session limit."""

AUDIO_ENCODERS: Mapping[AudioCodec, str] = {AudioCodec.AAC: "aac", AudioCodec.OPUS: "libopus"}
SAMPLE_RATES_HZ: Mapping[AudioCodec, tuple[int, ...]] = {
    AudioCodec.AAC: (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000),
    AudioCodec.OPUS: (8000, 12000, 16000, 24000, 48000),
    AudioCodec.NONE: (),
}


def encoder_for(named: str | None, codec: VideoCodec, available: Collection[str]) -> str:
    """Return the encoder asked for, else the first of `available` that makes the codec.

    An encoder asked for by name is taken at its word even when this node has not probed it: ffmpeg
    then says why it cannot. Raises Unusable when no available one makes the codec.
    """
    if named is not None:
        return named
    for encoder in ENCODERS.values():
        if encoder.codec is codec and encoder.name in available:
            return encoder.name
    raise Unusable(f"no encoder for {codec} runs on this node; it has: {_list(available)}")


def video_options(video: Video, name: str, threads: int | None) -> list[str]:
    """Return ffmpeg's options for encoding `video` with the encoder `name`.

    An encoder that is not in the table gets the bit rate and the preset as they are. Raises
    Unusable for a preset or a rate factor the encoder does not have, and for `threads` where
    nobody knows how to hold the encoder to them.
    """
    options = ["-c:v", name]
    encoder = ENCODERS.get(name)
    if encoder is None:
        if threads is not None:
            raise Unusable(
                f"limits.cpu_threads cannot be enforced on encoder {name!r}; "
                f"allowed with it: {_list(ENCODERS)}"
            )
        options += ["-pix_fmt", "yuv420p"]
        options += [] if video.preset is None else ["-preset", video.preset]
        options += [] if video.crf is None else ["-crf", str(video.crf)]
    else:
        options += ["-pix_fmt", encoder.pixel_format, *encoder.always]
        options += _preset(encoder, video.preset)
        options += [] if video.bitrate_bps is not None else _quality(encoder, video.crf)
    if video.bitrate_bps is not None:
        options += ["-b:v", str(video.bitrate_bps)]
    if name == "libx265":
        options += ["-x265-params", _x265(threads)]
    if threads is None:
        return options
    if name == "libsvtav1":
        options += ["-svtav1-params", f"lp={_svt_level(threads)}"]
    return [*options, "-threads:v", str(threads)]


def _preset(encoder: Encoder, asked: str | None) -> Options:
    preset = encoder.preset if asked is None else asked
    if preset not in encoder.presets:
        raise Unusable(
            f"{encoder.name} has no preset {preset!r}; allowed: {_list(encoder.presets)}"
        )
    return encoder.presets[preset]


def _quality(encoder: Encoder, asked: int | None) -> Options:
    crf = encoder.crf if asked is None else asked
    if crf > encoder.crf_max:
        raise Unusable(f"{encoder.name} has no crf {crf}; allowed: 0 to {encoder.crf_max}")
    return (encoder.quality, str(crf), *encoder.with_crf)


def _x265(threads: int | None) -> str:
    """Return x265's own parameters: its pool ignores `-threads`, and it prints by itself."""
    return "log-level=error" if threads is None else f"log-level=error:pools={threads}"


def _svt_level(threads: int) -> int:
    """Return SVT-AV1's level of parallelism for a number of threads; it ignores `-threads`.

    Level n is for 2^(n-1) CPU threads and more: measured, level 1 takes 1.1 of them where level 2
    takes two. Source: `level_of_parallelism` in the SVT-AV1 3 user guide; 6 is the highest.
    """
    return min(6, threads.bit_length())


def _list(words: Collection[str]) -> str:
    return ", ".join(words) if words else "none"
