"""What a job needs of a node: capabilities, and amounts of what is counted.

Jobs with equal needs wait in the same lines, so a need is small, hashable and nothing else.
"""

from typing import NamedTuple

from events.ids import NodeId
from events.media import Audio, AudioCodec, Output, Parameters, Video
from events.spec import Engine, JobSpec

HARDWARE_SUFFIXES = ("_nvenc", "_qsv", "_vaapi", "_amf", "_videotoolbox")
"""How names of hardware encoders end."""
GPU = "gpu"


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
    """Return what a job with this specification needs, after it has met the nodes of `avoid`."""
    encoders, codecs = _video_needs(spec)
    limits = spec.limits
    sessions = sum(encoder.endswith(HARDWARE_SUFFIXES) for encoder in encoders)
    return Need(
        capabilities=_capabilities(spec, encoders, codecs),
        cpu_threads=0 if limits is None else limits.cpu_threads or 0,
        memory_bytes=0 if limits is None else limits.memory_bytes or 0,
        gpus=int(GPU in spec.requires and not sessions),
        sessions=sessions,
        codecs=codecs,
        avoid=tuple(sorted(avoid)),
    )


def requirements(spec: JobSpec) -> frozenset[str]:
    """Return the capabilities a node must have to run this job."""
    return _capabilities(spec, *_video_needs(spec))


def codec_of_scenario(scenario: str | None) -> str:
    """Return the codec a scenario names; without one it is h264."""
    codec = "h264" if scenario is None else scenario.rpartition("-")[2]
    return "hevc" if codec == "h265" else codec


def _capabilities(
    spec: JobSpec, encoders: tuple[str, ...], codecs: tuple[str, ...]
) -> frozenset[str]:
    needed = set(spec.requires)
    if spec.engine is Engine.NOOP:
        return frozenset(needed | {"engine:noop"})
    needed.add(f"engine:{Engine.FFMPEG if spec.engine is Engine.AUTO else spec.engine}")
    needed.update(f"encoder:{encoder}" for encoder in encoders)
    needed.update(f"codec:{codec}" for codec in codecs)
    usual = None if spec.parameters is None else spec.parameters.audio
    for output in spec.outputs or (Output(),):
        needed |= _audio_need(output.audio, usual)
    return frozenset(needed)


def _video_needs(spec: JobSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the encoders that outputs name, and the codecs of the outputs that name none."""
    if spec.engine is Engine.NOOP:
        return (), ()
    usual = (spec.parameters or Parameters()).video
    encoders: list[str] = []
    codecs: list[str] = []
    for output in spec.outputs or (Output(),):
        video = next((each for each in (output.video, usual) if _names_one(each)), None)
        if video is not None and video.encoder is not None:
            encoders.append(video.encoder)
        elif video is not None:
            codecs.append(str(video.codec))
        else:
            codecs.append(codec_of_scenario(spec.scenario))
    return tuple(encoders), tuple(codecs)


def _names_one(video: Video | None) -> bool:
    return video is not None and (video.encoder is not None or video.codec is not None)


def _audio_need(*choices: Audio | None) -> set[str]:
    """Return what the first choice that names a codec needs."""
    named = [audio.codec for audio in choices if audio is not None and audio.codec is not None]
    return {f"codec:{named[0]}"} if named and named[0] is not AudioCodec.NONE else set()
