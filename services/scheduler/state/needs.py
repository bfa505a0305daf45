"""What a job needs of a node: capabilities, and amounts of what is counted.

Jobs with equal needs wait in the same lines, so a need is small, hashable and nothing else.
"""

from functools import lru_cache
from typing import NamedTuple

from events.ids import NodeId
from events.media import Audio, AudioCodec, Video
from events.spec import Engine, JobSpec, ResourceLimits

HARDWARE_SUFFIXES = ("_nvenc", "_qsv", "_vaapi", "_amf", "_videotoolbox")
"""How names of hardware encoders end."""
GPU = "gpu"
NEEDS_MAX = 10_000
"""Most specifications remembered, of those that differ in what they need."""


class Need(NamedTuple):
    """What one attempt of a job takes; 0 is not counted."""

    capabilities: frozenset[str]
    cpu_threads: int = 0
    memory_bytes: int = 0
    gpus: int = 0
    """Whole devices: of a job that requires a GPU for anything but a hardware encoder."""
    sessions: int = 0
    """Outputs that name a hardware encoder."""
    codecs: tuple[str, ...] = ()
    """Of the outputs that leave the encoder to the node: where it has only a hardware encoder for
    one, that takes a session too."""
    avoid: tuple[NodeId, ...] = ()
    """Nodes that lacked what it needs, in order of their names."""

    @property
    def wants_gpu(self) -> bool:
        """Whether it is work for nodes that have a GPU."""
        return self.gpus > 0 or self.sessions > 0 or GPU in self.capabilities


def need_of(spec: JobSpec, avoid: tuple[NodeId, ...] = ()) -> Need:
    """Return what a job with this specification needs, after it has met the nodes of `avoid`.

    Equal needs are most often one object: what they follow from is remembered.
    """
    needed = _cached_need(_Asked.of(spec))
    return needed._replace(avoid=tuple(sorted(avoid))) if avoid else needed


def requirements(spec: JobSpec) -> frozenset[str]:
    """Return the capabilities a node must have to run this job."""
    return _cached_need(_Asked.of(spec)).capabilities


class _Asked(NamedTuple):
    """All of a specification that says what a node must have."""

    engine: Engine
    scenario: str | None
    requires: tuple[str, ...]
    limits: ResourceLimits | None
    video: Video | None
    """Of outputs that name none."""
    audio: Audio | None
    outputs: tuple[tuple[Video | None, Audio | None], ...]

    @classmethod
    def of(cls, spec: JobSpec) -> "_Asked":
        usual, outputs = spec.parameters, spec.outputs
        return cls(
            spec.engine,
            spec.scenario,
            spec.requires,
            spec.limits,
            None if usual is None else usual.video,
            None if usual is None else usual.audio,
            tuple([(each.video, each.audio) for each in outputs]) if outputs else _ONE_OUTPUT,
        )


_ONE_OUTPUT = ((None, None),)


@lru_cache(maxsize=NEEDS_MAX)
def _cached_need(asked: _Asked) -> Need:
    encoders, codecs = _video_needs(asked)
    limits = asked.limits
    sessions = sum(encoder.endswith(HARDWARE_SUFFIXES) for encoder in encoders)
    return Need(
        capabilities=_capabilities(asked, encoders, codecs),
        cpu_threads=0 if limits is None else limits.cpu_threads or 0,
        memory_bytes=0 if limits is None else limits.memory_bytes or 0,
        gpus=int(GPU in asked.requires and not sessions),
        sessions=sessions,
        codecs=codecs,
    )


def codec_of_scenario(scenario: str | None) -> str:
    """Return the codec a scenario names; without one it is h264."""
    codec = "h264" if scenario is None else scenario.rpartition("-")[2]
    return "hevc" if codec == "h265" else codec


def _capabilities(
    asked: _Asked, encoders: tuple[str, ...], codecs: tuple[str, ...]
) -> frozenset[str]:
    needed = set(asked.requires)
    if asked.engine is Engine.NOOP:
        return frozenset(needed | {"engine:noop"})
    needed.add(f"engine:{Engine.FFMPEG if asked.engine is Engine.AUTO else asked.engine}")
    needed.update(f"encoder:{encoder}" for encoder in encoders)
    needed.update(f"codec:{codec}" for codec in codecs)
    for _, audio in asked.outputs:
        needed |= _audio_need(audio, asked.audio)
    return frozenset(needed)


def _video_needs(asked: _Asked) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the encoders that outputs name, and the codecs of the outputs that name none."""
    if asked.engine is Engine.NOOP:
        return (), ()
    encoders: list[str] = []
    codecs: list[str] = []
    for own, _ in asked.outputs:
        video = next((each for each in (own, asked.video) if _names_one(each)), None)
        if video is not None and video.encoder is not None:
            encoders.append(video.encoder)
        elif video is not None:
            codecs.append(str(video.codec))
        else:
            codecs.append(codec_of_scenario(asked.scenario))
    return tuple(encoders), tuple(codecs)


def _names_one(video: Video | None) -> bool:
    return video is not None and (video.encoder is not None or video.codec is not None)


def _audio_need(*choices: Audio | None) -> set[str]:
    """Return what the first choice that names a codec needs."""
    named = [audio.codec for audio in choices if audio is not None and audio.codec is not None]
    return {f"codec:{named[0]}"} if named and named[0] is not AudioCodec.NONE else set()
