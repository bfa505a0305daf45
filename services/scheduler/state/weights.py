"""How jobs rank against each other: weight as a head start.

A job of weight w is ordered as if it had been submitted w * `aging_s_per_weight` earlier. Both the
weight and the time of submission are fixed, so the order of two waiting jobs never changes: one
heap serves, nothing is re-sorted as time goes by. And nobody starves: a job is overtaken only by
jobs submitted less than (30 - w) * `aging_s_per_weight` after it.
"""

from events.media import Audio, AudioCodec, Output, Parameters, Video
from events.spec import Engine, JobSpec, Priority, Queue
from events.state.job import Terms

QUEUE_WEIGHT = {Queue.LIVE: 10.0, Queue.DEFAULT: 5.0, Queue.BATCH: 1.0}
PRIORITY_WEIGHT = {Priority.HIGH: 3.0, Priority.MEDIUM: 2.0, Priority.LOW: 1.0}


def weight(queue: Queue, priority: Priority) -> float:
    """Return queue weight times priority weight: live/high is 30, batch/low is 1."""
    return QUEUE_WEIGHT[queue] * PRIORITY_WEIGHT[priority]


def order_key(terms: Terms, aging_s_per_weight: float) -> float:
    """Return the instant, in seconds of Unix time, by which the job is ordered; smaller first."""
    head_start_s = weight(terms.queue, terms.priority) * aging_s_per_weight
    return terms.submitted_at.timestamp() - head_start_s


def requirements(spec: JobSpec) -> frozenset[str]:
    """Return the capabilities a node must have to run this job."""
    needed = set(spec.requires)
    if spec.engine is Engine.NOOP:
        return frozenset(needed | {"engine:noop"})
    engine = Engine.FFMPEG if spec.engine is Engine.AUTO else spec.engine
    needed.add(f"engine:{engine}")
    parameters = spec.parameters or Parameters()
    usual = _video_need(parameters.video) or f"codec:{_scenario_codec(spec.scenario)}"
    for output in spec.outputs or (Output(),):
        needed.add(_video_need(output.video) or usual)
        needed |= _audio_need(output.audio, parameters.audio)
    return frozenset(needed)


def _video_need(video: Video | None) -> str | None:
    if video is None:
        return None
    if video.encoder is not None:
        return f"encoder:{video.encoder}"
    return None if video.codec is None else f"codec:{video.codec}"


def _audio_need(*choices: Audio | None) -> set[str]:
    """Return what the first choice that names a codec needs."""
    named = [audio.codec for audio in choices if audio is not None and audio.codec is not None]
    return {f"codec:{named[0]}"} if named and named[0] is not AudioCodec.NONE else set()


def _scenario_codec(scenario: str | None) -> str:
    codec = "h264" if scenario is None else scenario.rpartition("-")[2]
    return "hevc" if codec == "h265" else codec
