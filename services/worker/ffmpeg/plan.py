"""From what a job asks to what exactly is made: every default filled in, nothing left to guess.

Precedence, field by field: an output's own values, the job's parameters, the scenario, the
defaults. A field that has its default value counts as not given.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from posixpath import normpath, splitext
from typing import TypeAlias, TypeVar

import msgspec
from msgspec import Struct, structs

from events.ids import JobId
from events.media import (
    Audio,
    AudioCodec,
    Container,
    Input,
    Output,
    Parameters,
    TestSource,
    Video,
    VideoCodec,
)
from events.spec import JobSpec, video_of_scenario
from services.worker.ffmpeg.encoders import ENCODERS, SAMPLE_RATES_HZ, Unusable

TEST_SOURCE_S = 10.0
"""Length of a generated input when nobody says."""
URL_SCHEMES = ("http", "https")
"""Inputs may be read from these, and from `file:`, which is a path below the media root."""
EXTENSIONS: Mapping[str, Container] = {
    ".mp4": Container.MP4,
    ".m4v": Container.MP4,
    ".mkv": Container.MKV,
    ".webm": Container.WEBM,
}
USUAL_CONTAINER: Mapping[VideoCodec, Container] = {
    VideoCodec.H264: Container.MP4,
    VideoCodec.HEVC: Container.MP4,
    VideoCodec.VP9: Container.WEBM,
    VideoCodec.AV1: Container.MKV,
}
"""Where players expect the codec. AV1 has no such place; Matroska carries it with either audio."""
USUAL_AUDIO: Mapping[Container, AudioCodec] = {
    Container.MP4: AudioCodec.AAC,
    Container.MKV: AudioCodec.OPUS,
    Container.WEBM: AudioCodec.OPUS,
}
AUDIO_IN: Mapping[Container, frozenset[AudioCodec]] = {
    Container.MP4: frozenset(AudioCodec),
    Container.MKV: frozenset(AudioCodec),
    Container.WEBM: frozenset({AudioCodec.OPUS, AudioCodec.NONE}),
}
VIDEO_IN: Mapping[Container, frozenset[VideoCodec]] = {
    Container.MP4: frozenset(VideoCodec),
    Container.MKV: frozenset(VideoCodec),
    Container.WEBM: frozenset({VideoCodec.VP9, VideoCodec.AV1}),
}


class FileSource(Struct, frozen=True):
    """A file, by its path as given: relative to the media root, or absolute and below it."""

    path: str


class UrlSource(Struct, frozen=True):
    """Something to fetch, by one of `URL_SCHEMES`."""

    url: str


Source: TypeAlias = TestSource | FileSource | UrlSource


class Rendition(Struct, frozen=True, kw_only=True):
    """One file to make."""

    path: str
    """Its final name, relative to the output root, normalized."""
    container: Container
    codec: VideoCodec
    video: Video
    """Agrees with `codec`; a size or rate of None is kept as in the source."""
    audio_codec: AudioCodec
    """Applies when the source has audio."""
    audio: Audio


def has_audio(rendition: Rendition) -> bool:
    """Tell whether audio of the source, if there is any, goes into this file."""
    return rendition.audio_codec is not AudioCodec.NONE


class Plan(Struct, frozen=True, kw_only=True):
    """One attempt, resolved."""

    source: Source
    start_s: float
    duration_s: float | None
    """None: to the end of the source."""
    renditions: tuple[Rendition, ...]
    threads: int | None
    """None: as many as the encoder likes."""


def plan(spec: JobSpec, job: JobId) -> Plan:
    """Return what exactly is to be made of `spec`; raises Unusable when it cannot be made."""
    parameters = spec.parameters or Parameters()
    base = Video() if spec.scenario is None else _scenario(spec.scenario)
    video = over(base, parameters.video)
    source = _source(spec.input, video, parameters)
    duration_s = parameters.duration_s
    if isinstance(source, TestSource):
        left_s = source.duration_s - parameters.start_s
        if left_s <= 0:
            raise Unusable(
                f"start_s {parameters.start_s:g} is not before the end of the test source; "
                f"allowed: below {source.duration_s:g}"
            )
        duration_s = left_s if duration_s is None else min(duration_s, left_s)
    outputs = spec.outputs or (Output(),)
    renditions = tuple(
        _rendition(output, _name(job, number, len(outputs)), video, parameters)
        for number, output in enumerate(outputs, start=1)
    )
    _check_distinct(renditions)
    return Plan(
        source=source,
        start_s=parameters.start_s,
        duration_s=duration_s,
        renditions=renditions,
        threads=None if spec.limits is None else spec.limits.cpu_threads,
    )


_V = TypeVar("_V", Video, Audio)


def over(base: _V, top: _V | None) -> _V:
    """Return `base` with every field replaced that `top` has given.

    When `top` changes the codec, what is said in the old codec's words goes: its encoder, its rate
    factor, its preset.
    """
    if top is None:
        return base
    given = {
        field.name: value
        for field in structs.fields(top)
        if (value := getattr(top, field.name)) != field.default
    }
    if isinstance(base, Video) and "encoder" in given and "codec" not in given:
        given |= _codec_of(given["encoder"])
    if isinstance(base, Video) and given.get("codec", _codec(base)) is not _codec(base):
        given = {"encoder": None, "crf": None, "preset": None} | given
    return structs.replace(base, **given)


def _codec(video: Video) -> VideoCodec:
    """Return the codec that the other values of `video` are said for."""
    named = {} if video.encoder is None else _codec_of(video.encoder)
    return video.codec or named.get("codec", VideoCodec.H264)


def _codec_of(encoder: str) -> dict[str, VideoCodec]:
    known = ENCODERS.get(encoder)
    return {} if known is None else {"codec": known.codec}


def _scenario(scenario: str) -> Video:
    try:
        video = video_of_scenario(scenario)
        return msgspec.convert(structs.asdict(video), Video)
    except (ValueError, msgspec.ValidationError) as refused:
        raise Unusable(f"scenario {scenario!r}: {refused}") from refused


def _source(given: Input | None, video: Video, parameters: Parameters) -> Source:
    if isinstance(given, TestSource):
        return given
    if given is not None:
        return _located(given)
    usual = TestSource()
    return TestSource(
        width=video.width or usual.width,
        height=video.height or usual.height,
        rate=video.rate or usual.rate,
        duration_s=parameters.start_s + (parameters.duration_s or TEST_SOURCE_S),
    )


_url = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")


def _located(given: str) -> Source:
    found = _url.match(given)
    scheme = found[1].lower() if found else ""
    if scheme in URL_SCHEMES:
        return UrlSource(given)
    if scheme not in {"", "file"}:
        raise Unusable(
            f"input {given!r} has scheme {scheme!r}; "
            f"allowed: a path, file, {', '.join(URL_SCHEMES)}"
        )
    if scheme:
        return FileSource(given[len("file://") :])
    return FileSource(given.removeprefix("file:"))


def _name(job: JobId, number: int, count: int) -> str:
    return str(job) if count == 1 else f"{job}-{number}"


def _rendition(output: Output, name: str, base: Video, parameters: Parameters) -> Rendition:
    video = over(base, output.video)
    _check_encoder(video)
    codec = _codec(video)
    container = _container(output, parameters.container, codec)
    _check_held(container, codec, VIDEO_IN[container])
    audio = over(parameters.audio or Audio(), output.audio)
    audio_codec = audio.codec or USUAL_AUDIO[container]
    _check_held(container, audio_codec, AUDIO_IN[container])
    _check_sample_rate(audio, audio_codec)
    return Rendition(
        path=f"{name}.{container}" if output.path is None else _output_path(output.path),
        container=container,
        codec=codec,
        video=video,
        audio_codec=audio_codec,
        audio=audio,
    )


def _check_held(container: Container, codec: str, allowed: Collection[str]) -> None:
    if codec not in allowed:
        raise Unusable(f"{container} cannot hold {codec}; allowed: {', '.join(sorted(allowed))}")


def _check_encoder(video: Video) -> None:
    known = None if video.encoder is None else ENCODERS.get(video.encoder)
    if known is not None and video.codec not in {None, known.codec}:
        raise Unusable(
            f"encoder {known.name} makes {known.codec}, not {video.codec}; "
            "name one of them, or two that agree"
        )


def _container(output: Output, usual: Container | None, codec: VideoCodec) -> Container:
    """Return the container: the output's, else its name's, else the job's, else the codec's."""
    if output.container is not None:
        return output.container
    extension = "" if output.path is None else splitext(output.path)[1].lower()
    if extension in EXTENSIONS:
        return EXTENSIONS[extension]
    if usual is not None:
        return usual
    if extension:
        raise Unusable(
            f"output {output.path!r} does not tell its container; allowed: "
            f"{', '.join(EXTENSIONS)}, or give `container`"
        )
    return USUAL_CONTAINER[codec]


def _check_sample_rate(audio: Audio, codec: AudioCodec) -> None:
    rates = SAMPLE_RATES_HZ[codec]
    if audio.sample_rate_hz is not None and audio.sample_rate_hz not in rates:
        raise Unusable(
            f"{codec} has no sample rate {audio.sample_rate_hz} Hz; "
            f"allowed: {', '.join(map(str, rates)) or 'none'}"
        )


def _output_path(given: str) -> str:
    """Return `given` normalized; refuses URLs, directories, and what climbs out of its root."""
    if _url.match(given) and not given.startswith("file://"):
        raise Unusable(f"output {given!r} is a URL; allowed: a path below the output root")
    path = given.removeprefix("file://").removeprefix("file:")
    normal = normpath(path)
    if path.endswith("/") or normal in {".", "/"}:
        raise Unusable(f"output {given!r} is a directory; give a file name")
    if normal.split("/")[0] == "..":
        raise Unusable(f"output {given!r} leads out of the output root")
    return normal


def _check_distinct(renditions: Sequence[Rendition]) -> None:
    seen: set[str] = set()
    for rendition in renditions:
        if rendition.path in seen:
            raise Unusable(f"two outputs are named {rendition.path!r}; give each its own name")
        seen.add(rendition.path)
