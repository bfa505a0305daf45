"""Finds the ffmpeg to use by what runs here, not by what was compiled in.

Every candidate encodes a few frames with each encoder it claims to have; the one with the most
that worked is taken, the newer on a tie. A hardware encoder whose driver is missing or too old thus
counts nothing. What was found is kept on disk under the binary's path, time and size and the
device nodes at hand, so that a second start costs one `stat`.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import anyio
import imageio_ffmpeg
import msgspec
from anyio import to_thread
from msgspec import Struct

from events.media import AudioCodec, VideoCodec
from services.errors import ConfigurationError
from services.worker.ffmpeg.encoders import AUDIO_ENCODERS, ENCODERS
from services.worker.ffmpeg.process import output_of

ENVIRONMENT = "FFRTMP_FFMPEG"
"""Names the ffmpeg to use; then no other is looked at."""
PROBE_S_MAX = 10.0
"""One encode of a few frames; a broken driver may hang."""
LIST_BYTES_MAX = 262_144
_PICTURE = "testsrc2=size=320x240:rate=25"
_TONE = "sine=sample_rate=48000"
_DEVICES = ("nvidia[0-9]*", "dri/renderD*")


class Ffmpeg(Struct, frozen=True, kw_only=True):
    """An ffmpeg and what it was seen to do on this machine."""

    path: str
    version: str
    video_encoders: tuple[str, ...]
    """In the order of `encoders.ENCODERS`."""
    audio_codecs: tuple[AudioCodec, ...]


class _Kept(Struct, frozen=True):
    key: str
    found: Ffmpeg


async def locate(cache_dir: Path, environment: Mapping[str, str] | None = None) -> Ffmpeg:
    """Return the ffmpeg to use; `environment` None is the process's own.

    Raises ConfigurationError when none works, or the one named by `ENVIRONMENT` does not.
    """
    given = os.environ if environment is None else environment
    tried = await to_thread.run_sync(lambda: list(dict.fromkeys(candidates(given))))
    found = [await _probed(path, cache_dir) for path in tried]
    working = [ffmpeg for ffmpeg in found if ffmpeg is not None and ffmpeg.video_encoders]
    if not working:
        raise ConfigurationError(
            f"no working ffmpeg; tried: {', '.join(map(str, tried)) or 'none'}; install the "
            f"package imageio-ffmpeg, or name a binary in {ENVIRONMENT}"
        )
    return max(working, key=_score)


def candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield the binaries to try, best first, resolved."""
    named = environment.get(ENVIRONMENT, "")
    if named:
        yield Path(named).resolve()
        return
    installed = shutil.which("ffmpeg", path=environment.get("PATH", os.defpath))
    if installed is not None:
        yield Path(installed).resolve()
    try:
        bundled = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:  # this platform's wheel carries none
        return
    found = shutil.which(bundled)
    if found is not None:
        yield Path(found).resolve()


def capabilities(ffmpeg: Ffmpeg) -> tuple[str, ...]:
    """Return what a worker with this ffmpeg may register; GPUs and labels are the caller's."""
    video = {ENCODERS[name].codec for name in ffmpeg.video_encoders}
    codecs: list[VideoCodec | AudioCodec] = [codec for codec in VideoCodec if codec in video]
    codecs += ffmpeg.audio_codecs
    return (
        "engine:ffmpeg",
        "engine:noop",
        *(f"encoder:{name}" for name in ffmpeg.video_encoders),
        *(f"codec:{codec}" for codec in codecs),
    )


def _score(ffmpeg: Ffmpeg) -> tuple[int, tuple[int, ...]]:
    version = tuple(int(number) for number in re.findall(r"\d+", ffmpeg.version)[:3])
    return len(ffmpeg.video_encoders) + len(ffmpeg.audio_codecs), version


async def _probed(path: Path, cache_dir: Path) -> Ffmpeg | None:
    """Return what the binary does, from the cache or by trying; None: it does not even start."""
    try:
        key = await to_thread.run_sync(_key, path)
    except OSError:  # it is not there
        return None
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    file = cache_dir / f"ffmpeg-{name}.json"
    kept = await to_thread.run_sync(_read, file, key)
    if kept is not None:
        return kept
    found = await _probe(path)
    if found is not None:
        await to_thread.run_sync(_write, file, _Kept(key, found))
    return found


def _key(path: Path) -> str:
    """Return what changes when the binary or the devices it may use do."""
    status = path.stat()
    devices = sorted(str(node) for pattern in _DEVICES for node in Path("/dev").glob(pattern))
    tried = sorted([*ENCODERS, *AUDIO_ENCODERS.values()])
    return " ".join([str(path), str(status.st_mtime_ns), str(status.st_size), *devices, *tried])


def _read(file: Path, key: str) -> Ffmpeg | None:
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=_Kept)
    except (OSError, msgspec.DecodeError):  # none yet, or not ours: probe again
        return None
    return kept.found if kept.key == key else None


def _write(file: Path, kept: _Kept) -> None:
    """Keep what was found; replaced in one step, for workers of one machine may share it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_bytes(msgspec.json.encode(kept))
    fresh.replace(file)


async def _probe(path: Path) -> Ffmpeg | None:
    claimed = await _output(path, ["-encoders"])
    shown = await _output(path, ["-version"])
    if claimed is None or shown is None:
        return None
    names = set(re.findall(r"^ [VA][A-Z.]{5} (\S+)", claimed, re.MULTILINE))
    wanted = [name for name in (*ENCODERS, *AUDIO_ENCODERS.values()) if name in names]
    works: dict[str, bool] = {}
    limit = anyio.CapacityLimiter(os.cpu_count() or 1)

    async def attempt(name: str) -> None:
        async with limit:
            works[name] = await _output(path, _encode(name)) is not None

    async with anyio.create_task_group() as tasks:
        for name in wanted:
            tasks.start_soon(attempt, name)
    version = re.match(r"ffmpeg version (\S+)", shown)
    return Ffmpeg(
        path=str(path),
        version=version[1] if version else "unknown",
        video_encoders=tuple(name for name in ENCODERS if works.get(name)),
        audio_codecs=tuple(codec for codec, name in AUDIO_ENCODERS.items() if works.get(name)),
    )


def _encode(name: str) -> list[str]:
    """Return the arguments of the smallest honest encode; some hardware refuses smaller sizes."""
    if name in ENCODERS:
        pixels = ENCODERS[name].pixel_format
        source = ["-f", "lavfi", "-i", _PICTURE, "-frames:v", "5", "-pix_fmt", pixels, "-c:v", name]
    else:
        source = ["-f", "lavfi", "-i", _TONE, "-frames:a", "5", "-c:a", name]
    return ["-nostdin", "-loglevel", "error", *source, "-f", "null", "-"]


async def _output(path: Path, arguments: Sequence[str]) -> str | None:
    """Return what a run prints, or None when it fails in any way."""
    command = [str(path), "-hide_banner", *arguments]
    try:
        status, text, _ = await output_of(command, timeout_s=PROBE_S_MAX, bytes_max=LIST_BYTES_MAX)
    except OSError:  # not executable; TimeoutError is one too
        return None
    return text.decode("utf-8", "replace") if status == 0 else None
