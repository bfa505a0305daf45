"""How jobs rank against each other: weight as a head start.

A job of weight w is ordered as if it had been submitted w * `aging_s_per_weight` earlier. Both the
weight and the time of submission are fixed, so the order of two waiting jobs never changes: one
heap serves, nothing is re-sorted as time goes by. And nobody starves: a job is overtaken only by
jobs submitted less than (30 - w) * `aging_s_per_weight` after it.
"""

from events.spec import JobSpec, Priority, Queue
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
    if spec.engine == "noop":
        return frozenset(needed | {"engine:noop"})
    needed.add("engine:ffmpeg" if spec.engine == "auto" else f"engine:{spec.engine}")
    parameters = spec.parameters
    videos = [output.video for output in spec.outputs]
    audios = [output.audio for output in spec.outputs]
    if parameters is not None:
        videos.append(parameters.video)
        audios.append(parameters.audio)
    for video in videos:
        if video is not None:
            needed.add(f"encoder:{video.encoder}" if video.encoder else f"codec:{video.codec}")
    needed.update(f"codec:{audio.codec}" for audio in audios if audio is not None)
    if spec.scenario is not None and not any(videos):
        codec = spec.scenario.rpartition("-")[2]
        needed.add("codec:hevc" if codec == "h265" else f"codec:{codec}")
    return frozenset(needed)
