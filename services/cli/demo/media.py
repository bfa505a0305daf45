"""Makes the demo's inputs with the real ffmpeg, and looks into its outputs."""

from pathlib import Path

import anyio
from msgspec import Struct

from services.cli.demo.scenes import CLIP, CLIP_S, CORRUPT, TALK, TALK_S, Expected
from services.errors import ConfigurationError
from services.worker.ffmpeg.argv import file_url, guarded_file
from services.worker.ffmpeg.inspect import Media, inspect
from services.worker.ffmpeg.process import output_of

ENCODE_S_MAX = 30.0
DECODE_S_MAX = 30.0
WORDS_BYTES_MAX = 65_536
LENGTH_TOLERANCE_S = 0.25
CORRUPT_BYTES = 50_000


class Proof(Struct, frozen=True, kw_only=True):
    """What was found in one output."""

    path: str
    found: str
    problem: str = ""
    """Empty: it is what was asked for."""


async def make_inputs(ffmpeg: Path, directory: Path) -> None:
    """Write two good inputs and a broken one. Raises ConfigurationError."""
    picture = f"testsrc2=size=640x360:rate=25:duration={CLIP_S:g},noise=alls=8:allf=t"
    tone = f"sine=frequency=440:sample_rate=48000:duration={CLIP_S:g}"
    video = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
    await _make(ffmpeg, directory / CLIP, picture, tone, *video, "-c:a", "aac")
    picture = f"mandelbrot=size=640x360:rate=25,trim=duration={TALK_S:g}"
    tone = f"sine=frequency=220:beep_factor=4:sample_rate=48000:duration={TALK_S:g}"
    await _make(ffmpeg, directory / TALK, picture, tone, *video, "-c:a", "libopus")
    broken = (await anyio.Path(directory / CLIP).read_bytes())[:CORRUPT_BYTES]
    await anyio.Path(directory / CORRUPT).write_bytes(broken)


async def prove(ffmpeg: Path, root: Path, expected: Expected) -> Proof:
    """Look at one output: codecs, size, length, and that every frame decodes."""
    path = root / expected.path
    if not await anyio.Path(path).is_file():
        return Proof(path=expected.path, found="", problem="is not there")
    media = await inspect(ffmpeg, guarded_file(), file_url(path))
    if not isinstance(media, Media):
        return Proof(path=expected.path, found="", problem=f"is unreadable: {media.message}")
    found = _found(media)
    asked = _asked(expected)
    wrong = [
        f"{name}: {found[name]}, not {asked[name]}" for name in asked if found[name] != asked[name]
    ]
    length_s = media.duration_s or 0.0
    if abs(length_s - expected.duration_s) > LENGTH_TOLERANCE_S:
        wrong.append(f"length: {length_s:g} s, not {expected.duration_s:g} s")
    wrong += await _decode(ffmpeg, path)
    words = f"{'  '.join(found.values())}  {length_s:.2f} s"
    return Proof(path=expected.path, found=words, problem="; ".join(wrong))


def _found(media: Media) -> dict[str, str]:
    video, audio = media.first("video"), media.first("audio")
    return {
        "video": "none" if video is None else video.codec,
        "size": "none" if video is None else f"{video.width}x{video.height}",
        "audio": "none" if audio is None else audio.codec,
    }


def _asked(expected: Expected) -> dict[str, str]:
    return {
        "video": expected.codec.value,
        "size": f"{expected.width}x{expected.height}",
        "audio": expected.audio.value,
    }


async def _decode(ffmpeg: Path, path: Path) -> list[str]:
    command = [str(ffmpeg), "-nostdin", "-v", "error", "-xerror", "-i", str(path)]
    status, _, words = await output_of(
        [*command, "-f", "null", "-"], timeout_s=DECODE_S_MAX, bytes_max=WORDS_BYTES_MAX
    )
    if status == 0 and not words:
        return []
    return [f"does not decode: {words[0] if words else f'exit status {status}'}"]


async def _make(ffmpeg: Path, path: Path, picture: str, tone: str, *encoding: str) -> None:
    command = [str(ffmpeg), "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", picture]
    command += ["-f", "lavfi", "-i", tone, *encoding, "-shortest", str(path)]
    status, _, words = await output_of(command, timeout_s=ENCODE_S_MAX, bytes_max=WORDS_BYTES_MAX)
    if status != 0:
        raise ConfigurationError(f"{path.name}: {words[-1] if words else f'exit status {status}'}")
