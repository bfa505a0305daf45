"""How fast each node has been at what kind of work: learned from the ledger."""

from functools import lru_cache
from typing import NamedTuple

from events.ids import NodeId
from events.media import Video
from events.spec import JobSpec, video_of_scenario
from services.scheduler.state.needs import codec_of_scenario

NEW_SHARE = 0.2
"""Share of the newest measurement in the mean: about the last ten count."""
HEIGHTS = (360, 540, 720, 1080, 1440, 2160)
"""Upper bounds of the size buckets, in lines; what is larger is one more."""


class Kind(NamedTuple):
    """Work that takes about the same effort: by its first output."""

    codec: str
    """The encoder where it is named."""
    height: int
    """Upper bound of its size, in lines; 0: larger than all, -1: as the input, which nobody
    knows."""


class Speeds:
    """Exponential means of seconds of media made per second, by node and kind of work."""

    def __init__(self) -> None:
        self._means: dict[NodeId, dict[Kind, float]] = {}

    def learn(self, node: NodeId, kind: Kind, speed: float) -> None:
        """Take in a measurement; 0 is none."""
        if speed <= 0:
            return
        means = self._means.setdefault(node, {})
        before = means.get(kind, speed)
        means[kind] = before + NEW_SHARE * (speed - before)

    def of(self, node: NodeId, kind: Kind) -> float:
        """Return how fast the node is at it; 0: not known."""
        means = self._means.get(node)
        return 0.0 if means is None else means.get(kind, 0.0)

    def forget(self, node: NodeId) -> None:
        """Drop what is known of a node that has gone."""
        self._means.pop(node, None)


def kind_of(spec: JobSpec) -> Kind:
    """Return what kind of work a job is."""
    own = spec.outputs[0].video if spec.outputs else None
    usual = None if spec.parameters is None else spec.parameters.video
    return _kind(spec.scenario, own, usual)


@lru_cache(maxsize=1_000)
def _kind(scenario: str | None, own: Video | None, usual: Video | None) -> Kind:
    wanted = [video for video in (own, usual) if video is not None]
    codec = next(filter(None, map(_codec, wanted)), None)
    height = next((video.height for video in wanted if video.height is not None), None)
    if height is None:
        height = _height_of_scenario(scenario)
    return Kind(codec or codec_of_scenario(scenario), _bucket(height))


def _codec(video: Video) -> str | None:
    return video.encoder if video.codec is None or video.encoder is not None else str(video.codec)


def _bucket(height: int | None) -> int:
    if height is None:
        return -1
    return next((bound for bound in HEIGHTS if height <= bound), 0)


def _height_of_scenario(scenario: str | None) -> int | None:
    """Return the lines a scenario asks for; None where it cannot be told."""
    if scenario is None:
        return None
    try:
        return video_of_scenario(scenario).height
    except ValueError:
        return None
