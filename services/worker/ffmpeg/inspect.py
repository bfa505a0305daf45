"""What is in a media file, by ffmpeg itself: no ffprobe is needed, and 20 ms are enough.

One run copies nothing (`-t 0`) into the `framecrc` muxer: its header gives codec and size in a form
made for machines; duration and frame rate are in what ffmpeg prints for people.

Source: ffmpeg 9 `libavformat/framehash.c` and `av_dump_format`.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from events.job import FailureClass
from services.worker.ffmpeg.classify import Verdict, classify
from services.worker.ffmpeg.plan import Rendition
from services.worker.ffmpeg.process import output_of

INSPECT_S_MAX = 45.0
"""A file on a slow disk or a far server; a local one takes 20 ms. It is more than a silent server
is given, and less than an attempt without progress, so that the nearest cause is told."""
HEADER_BYTES_MAX = 65_536
SHORT_S = 0.5
SHORT_SHARE = 0.02
"""An output may end this much early, whichever is more: a last frame, an encoder's priming."""


class Stream(Struct, frozen=True, kw_only=True):
    """One stream of a file; None is not told."""

    kind: str
    """`video` or `audio`."""
    codec: str
    """In ffmpeg's words, which for what we make are those of `events.media`."""
    width: int | None = None
    height: int | None = None
    rate: float | None = None
    """Frames per second, rounded to two digits as ffmpeg prints it."""
    sample_rate_hz: int | None = None


class Media(Struct, frozen=True, kw_only=True):
    """What a file holds."""

    streams: tuple[Stream, ...] = ()
    duration_s: float | None = None
    """By the container, with a resolution of 10 ms; None: it does not tell."""

    def first(self, kind: str) -> Stream | None:
        """Return the first stream of a kind, if any."""
        return next((stream for stream in self.streams if stream.kind == kind), None)


async def inspect(ffmpeg: Path, guarded: Sequence[str], opened: str) -> Media | Verdict:
    """Return what is in `opened`, read with the input options `guarded`, or why it is unreadable.

    Raises TimeoutError after `INSPECT_S_MAX`, OSError when ffmpeg cannot be started.
    """
    command = [str(ffmpeg), "-nostdin", "-hide_banner", "-nostats", "-loglevel", "info"]
    command += [*guarded, "-i", opened, "-map", "0:V?", "-map", "0:a?"]
    command += ["-c", "copy", "-t", "0", "-f", "framecrc", "-"]
    status, header, words = await output_of(
        command, timeout_s=INSPECT_S_MAX, bytes_max=HEADER_BYTES_MAX
    )
    media = parse(header.decode("utf-8", "replace"), words)
    opened_empty = media.duration_s is not None and not media.streams
    return media if status == 0 or opened_empty else classify(status, words)


class Least(Struct, frozen=True, kw_only=True):
    """What outputs must hold at least."""

    written_s: float
    """What ffmpeg said it has written."""
    asked_s: float
    """What was asked for in so many words and the input claims to hold; 0: nothing."""
    fetched: bool
    """The input came over a network, so that a short one may be whole next time."""
    audio: bool


def mismatch(rendition: Rendition, made: Media | Verdict, least: Least) -> Verdict | None:
    """Return in what the file at hand is not the rendition asked for, if anything.

    A file that is unreadable or shorter than ffmpeg said was damaged on its way to the disk:
    another node may do. One that is short because the input was is short again, unless it was
    fetched. One that is longer than asked has lost nothing: containers round.
    """
    if isinstance(made, Verdict):
        return Verdict(FailureClass.RESOURCE, f"{rendition.path} is unreadable: {made.message}")
    wrong = _wrong(rendition, made, audio=least.audio)
    if wrong is not None:
        return Verdict(FailureClass.PERMANENT, f"{rendition.path}: {wrong}")
    made_s = made.duration_s or 0.0
    for least_s, failure, whose in (
        (least.written_s, FailureClass.RESOURCE, "written"),
        (least.asked_s, _short_input(least), "asked for"),
    ):
        if made_s < least_s - max(SHORT_S, SHORT_SHARE * least_s):
            return Verdict(
                failure, f"{rendition.path} holds {made_s:.2f} s of {least_s:.2f} s {whose}"
            )
    return None


def _short_input(least: Least) -> FailureClass:
    return FailureClass.TRANSIENT if least.fetched else FailureClass.PERMANENT


def _wrong(rendition: Rendition, made: Media, *, audio: bool) -> str | None:
    video, sound = made.first("video"), made.first("audio")
    asked = rendition.video
    if video is None:
        return "has no video"
    if video.codec != rendition.codec:
        return f"is {video.codec}, not {rendition.codec}"
    if asked.width not in {None, video.width} or asked.height not in {None, video.height}:
        return f"is {video.width}x{video.height}, not {asked.width}x{asked.height}"
    heard = "none" if sound is None else sound.codec
    if heard != (rendition.audio_codec if audio else "none"):
        return f"has audio {heard}, not {rendition.audio_codec}"
    return None


_duration = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")
_rate = re.compile(r"Video: .*?, ([\d.]+)(k?) fps\b")
_field = re.compile(r"^#(\w+) (\d+): (.*)$")
_size = re.compile(r"^(\d+)x(\d+)$")


def parse(header: str, words: Sequence[str]) -> Media:
    """Return what the framecrc header and ffmpeg's words say."""
    fields: dict[int, dict[str, str]] = {}
    for line in header.splitlines():
        found = _field.match(line)
        if found:
            fields.setdefault(int(found[2]), {})[found[1]] = found[3]
    rate = _first_rate(words)
    streams = tuple(_stream(values, rate) for _, values in sorted(fields.items()))
    return Media(
        streams=tuple(stream for stream in streams if stream.kind in {"video", "audio"}),
        duration_s=_duration_s(words),
    )


def _stream(values: dict[str, str], rate: float | None) -> Stream:
    size = _size.match(values.get("dimensions", ""))
    sample_rate = values.get("sample_rate", "")
    kind = values.get("media_type", "")
    return Stream(
        kind=kind,
        codec=values.get("codec_id", ""),
        width=int(size[1]) if size else None,
        height=int(size[2]) if size else None,
        rate=rate if kind == "video" else None,
        sample_rate_hz=int(sample_rate) if sample_rate.isdigit() else None,
    )


def _first_rate(words: Sequence[str]) -> float | None:
    for line in words:
        found = _rate.search(line)
        if found:
            return float(found[1]) * (1000 if found[2] else 1)
    return None


def _duration_s(words: Sequence[str]) -> float | None:
    for line in words:
        found = _duration.match(line)
        if found:
            return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
    return None
