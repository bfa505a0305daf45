"""ffmpeg's arguments from a plan: numbers and names of ours, never text of a user as an option.

Every path is written `file:<absolute path>`, so that neither a leading `-` nor a `:` in a name can
become an option or a protocol. Which protocols and formats ffmpeg may open is pinned too: a
playlist that lies in the media root must not make it read something outside.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from msgspec import Struct

from events.media import Container, TestSource, Video, VideoCodec
from services.worker.ffmpeg.encoders import AUDIO_ENCODERS, video_options
from services.worker.ffmpeg.plan import Plan, Rendition, UrlSource, has_audio

PROGRESS_PERIOD_S = 0.5
NETWORK_TIMEOUT_US = 30_000_000
"""A silent server is given up after this; ffmpeg's own default is never."""
FILE_FORMATS = (
    "mov,matroska,avi,flv,mpegts,mpeg,mpegvideo,mxf,ogg,asf,wav,flac,mp3,aac,ac3,eac3,ivf,obu,"
    "h264,hevc,av1,m4v,yuv4mpegpipe,gif,dv,nut,gxf,rm"
)
"""Formats of one self-contained file: no playlists, no concatenations, no image sequences."""
URL_PROTOCOLS = "http,https,tcp,tls,crypto,data"
MUXERS: Mapping[Container, tuple[str, ...]] = {
    Container.MP4: ("-movflags", "+faststart", "-f", "mp4"),
    Container.MKV: ("-f", "matroska"),
    Container.WEBM: ("-f", "webm"),
}
TONE_HZ = 440
TONE_RATE_HZ = 48_000


class Target(Struct, frozen=True, kw_only=True):
    """One output of the command: what, by which encoder, to where."""

    rendition: Rendition
    encoder: str
    path: Path


def arguments(
    plan: Plan, targets: Sequence[Target], *, opened: str, audio: bool, strict: bool
) -> list[str]:
    """Return the arguments, without the program, that make all `targets` in one process.

    `opened` is the URL that ffmpeg opens (`file:/…`, `https://…`), empty for a test source.
    `audio` tells whether that input has sound. `strict` fails the run at the first corrupt frame
    instead of hiding it behind a concealed picture and status 0. Raises Unusable as
    `encoders.video_options` does.
    """
    source = plan.source
    if isinstance(source, TestSource):
        inputs = test_source(source, plan.start_s, plan.duration_s)
        audio = source.audio
        audio_input = 1
    else:
        inputs = [*_guarded(source), *_span(plan), "-i", opened]
        audio_input = 0
    threads = [] if plan.threads is None else ["-threads", str(plan.threads)]
    limited = [] if plan.threads is None else ["-filter_threads", str(plan.threads), *threads]
    command = [
        *("-nostdin", "-hide_banner", "-y", "-loglevel", "level+warning"),
        *("-progress", "pipe:1", "-nostats", "-stats_period", f"{PROGRESS_PERIOD_S:g}"),
        *(["-xerror"] if strict else []),
        *limited,
        *inputs,
    ]
    for target in targets:
        heard = audio and has_audio(target.rendition)
        command += ["-map", "0:V:0", *(["-map", f"{audio_input}:a:0"] if heard else [])]
        command += _output(target, plan, audio=audio)
    return command


def test_source(source: TestSource, start_s: float, duration_s: float | None) -> list[str]:
    """Return the input options of a moving, noisy picture and a tone, from `start_s` on."""
    end_s = source.duration_s if duration_s is None else start_s + duration_s
    picture = f"testsrc2=size={source.width}x{source.height}:rate={rational(source.rate)}"
    picture += f":duration={_seconds(end_s)}"
    if start_s > 0:
        picture += f",trim=start={_seconds(start_s)},setpts=PTS-STARTPTS"
    if source.noise:
        picture += f",noise=alls={source.noise}:allf=t"
    inputs = ["-f", "lavfi", "-i", picture]
    if source.audio:
        tone = f"sine=frequency={TONE_HZ}:sample_rate={TONE_RATE_HZ}"
        tone += f":duration={_seconds(end_s - start_s)}"
        inputs += ["-f", "lavfi", "-i", tone]
    return inputs


def rational(rate: float) -> str:
    """Return a frame rate as ffmpeg wants it exact: 29.97 is 30000/1001, 12.5 is 25/2.

    Source: SMPTE ST 12-1, rates of n * 1000/1001.
    """
    whole = round(rate * 1.001)
    if rate != round(rate) and abs(rate - whole / 1.001) < 0.005:  # noqa: PLR2004 - 2 digits given
        return f"{whole * 1000}/1001"
    return str(Fraction(rate).limit_denominator(1001))


def file_url(path: Path) -> str:
    """Return what makes ffmpeg open exactly the file at `path`."""
    return f"file:{path}"


def guarded_file() -> list[str]:
    """Return the input options that let ffmpeg read one self-contained file and nothing else."""
    return ["-protocol_whitelist", "file", "-format_whitelist", FILE_FORMATS]


def guarded_url() -> list[str]:
    """Return the input options that let ffmpeg fetch, within time, but not read local files."""
    return ["-protocol_whitelist", URL_PROTOCOLS, "-rw_timeout", str(NETWORK_TIMEOUT_US)]


def _guarded(source: object) -> list[str]:
    return guarded_url() if isinstance(source, UrlSource) else guarded_file()


def _span(plan: Plan) -> list[str]:
    start = ["-ss", _seconds(plan.start_s)] if plan.start_s > 0 else []
    return start + ([] if plan.duration_s is None else ["-t", _seconds(plan.duration_s)])


def _output(target: Target, plan: Plan, *, audio: bool) -> list[str]:
    rendition = target.rendition
    filters = _filters(rendition.video, plan)
    options = video_options(rendition.video, target.encoder, plan.threads)
    options += ["-vf", ",".join(filters)] if filters else []
    if rendition.container is Container.MP4 and rendition.codec is VideoCodec.HEVC:
        options += ["-tag:v", "hvc1"]  # Apple's players take no other tag
    options += _audio(rendition) if audio and has_audio(rendition) else []
    return [*options, *MUXERS[rendition.container], file_url(target.path)]


def _filters(video: Video, plan: Plan) -> list[str]:
    made = plan.source if isinstance(plan.source, TestSource) else None
    filters: list[str] = []
    if video.rate is not None and not (made and made.rate == video.rate):
        filters.append(f"fps=fps={rational(video.rate)}")
    size = (video.width, video.height)
    if made and size in {(None, None), (made.width, made.height)}:
        return filters
    if size == (None, None):
        # 4:2:0 has no odd sizes; a lost line is better than a resampled picture
        return [*filters, "crop=w=trunc(iw/2)*2:h=trunc(ih/2)*2:x=0:y=0"]
    width, height = (-2 if length is None else length for length in size)
    return [*filters, f"scale=w={width}:h={height}:flags=bicubic", "setsar=1"]


def _audio(rendition: Rendition) -> list[str]:
    audio = rendition.audio
    options = ["-c:a", AUDIO_ENCODERS[rendition.audio_codec], "-b:a", str(audio.bitrate_bps)]
    options += [] if audio.channels is None else ["-ac", str(audio.channels)]
    return options + ([] if audio.sample_rate_hz is None else ["-ar", str(audio.sample_rate_hz)])


def _seconds(value: float) -> str:
    """Return seconds with ffmpeg's own resolution, never in exponent notation."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
