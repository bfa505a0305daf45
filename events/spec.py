"""The job specification: everything a job is asked to be, as submitted.

A specification says what, never how: the scheduler derives what a node must be capable of, the
worker derives the encoder's arguments.
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct, ValidationError, convert

from events.ids import END_OF_TEXT, TOKEN_PATTERN, JobIdField
from events.media import Input, Output, Parameters, PositiveSeconds, Video


class Queue(StrEnum):
    """Service class of a job."""

    LIVE = "live"
    DEFAULT = "default"
    BATCH = "batch"


class Priority(StrEnum):
    """Rank inside a queue."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Engine(StrEnum):
    """What runs the work; `noop` does nothing and measures the system itself."""

    AUTO = "auto"
    FFMPEG = "ffmpeg"
    GSTREAMER = "gstreamer"
    NOOP = "noop"


class Confidence(StrEnum):
    """How sure the submitter is of the parameters."""

    AUTO = "auto"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Classification(StrEnum):
    """What the job counts as in service-level reports."""

    PRODUCTION = "production"
    TEST = "test"
    BENCHMARK = "benchmark"
    DEBUG = "debug"


class OnDependencyFailure(StrEnum):
    """What becomes of a job whose dependency did not succeed."""

    FAIL = "fail"
    SKIP = "skip"


SCENARIO_PATTERN = (
    r"^(?:[1-9][0-9]{1,3}p|[48][kK]|[1-9][0-9]{1,4}x[1-9][0-9]{1,4}@)"
    r"[1-9][0-9]{0,2}(?:\.[0-9]{1,3})?-(?:h264|h265|hevc|vp9|av1)" + END_OF_TEXT
)
Scenario: TypeAlias = Annotated[
    str,
    Meta(
        pattern=SCENARIO_PATTERN,
        description="`<height>p<rate>-<codec>`, `4K<rate>-<codec>`, `<width>x<height>@<rate>-…`.",
        examples=["1080p30-h264", "4K60-h265", "640x360@25-vp9"],
    ),
]
LabelKey: TypeAlias = Annotated[str, Meta(pattern="^[A-Za-z0-9_./-]{1,63}" + END_OF_TEXT)]
LabelValue: TypeAlias = Annotated[str, Meta(max_length=255)]
Capability: TypeAlias = Annotated[
    str,
    Meta(
        pattern="^[a-z]+(?::[A-Za-z0-9_./=-]{1,128})?" + END_OF_TEXT,
        description="What a node must have: `gpu`, `encoder:hevc_nvenc`, `label:zone=eu`.",
    ),
]
Instant: TypeAlias = Annotated[datetime, Meta(tz=True)]


class ResourceLimits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one attempt may use at most; None is no limit of its own."""

    cpu_threads: Annotated[int, Meta(ge=1, le=1024)] | None = None
    memory_bytes: Annotated[int, Meta(ge=64 * 2**20)] | None = None
    disk_bytes: Annotated[int, Meta(ge=2**20)] | None = None


class JobSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to transcode, into what, and how it ranks.

    An empty one is a 10 s 720p30 h264 test clip.
    """

    scenario: Scenario | None = None
    """Size, rate and codec in one word; explicit parameters override it field by field."""
    parameters: Parameters | None = None
    input: Input | None = None
    """A path, a URL or a generated test source; None: a test source of the scenario's size and
    rate."""
    outputs: Annotated[tuple[Output, ...], Meta(max_length=16)] = ()
    """Files to make; empty: one, named after the job."""
    engine: Engine = Engine.AUTO
    queue: Queue = Queue.DEFAULT
    priority: Priority = Priority.MEDIUM
    confidence: Confidence = Confidence.AUTO
    classification: Classification | None = None
    tenant: Annotated[str, Meta(pattern=TOKEN_PATTERN)] = "default"
    labels: Annotated[dict[LabelKey, LabelValue], Meta(max_length=32)] = {}
    requires: Annotated[tuple[Capability, ...], Meta(max_length=32)] = ()
    limits: ResourceLimits | None = None
    timeout_s: PositiveSeconds | None = None
    """How long one attempt may run; None: derived from duration and engine."""
    not_before: Instant | None = None
    deadline: Instant | None = None
    depends_on: Annotated[tuple[JobIdField, ...], Meta(max_length=256)] = ()
    on_dependency_failure: OnDependencyFailure = OnDependencyFailure.FAIL
    attempts_max: Annotated[int, Meta(ge=1, le=100)] = 3
    """How many attempts may fail before the job does; 1 is no retry."""
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    """The same key of the same tenant is the same job, for ever."""


_scenario = re.compile(
    r"(?:(?P<lines>\d+)p|(?P<ultra>[48])[kK]|(?P<width>\d+)x(?P<height>\d+)@)"
    r"(?P<rate>[\d.]+)-(?P<codec>\w+)"
).fullmatch
_ULTRA = {"4": (3840, 2160), "8": (7680, 4320)}


def video_of_scenario(scenario: str) -> Video:
    """Return what a scenario asks of the video; 16:9 where only lines are given, sizes made even.

    Raises ValueError for what `SCENARIO_PATTERN` would have refused, and for a size or a rate that
    no `Video` may have.
    """
    found = _scenario(scenario)
    if found is None:
        message = f"{scenario!r} is no scenario; allowed: 1080p30-h264, 4K60-h265, 640x360@25-vp9"
        raise ValueError(message)
    if found["ultra"]:
        width, height = _ULTRA[found["ultra"]]
    elif found["lines"]:
        height = int(found["lines"])
        width = round(height * 16 / 9 / 2) * 2
    else:
        width, height = int(found["width"]), int(found["height"])
    codec = "hevc" if found["codec"] == "h265" else found["codec"]
    video = {
        "codec": codec,
        "width": width + width % 2,
        "height": height + height % 2,
        "rate": float(found["rate"]),
    }
    try:
        return convert(video, Video)
    except ValidationError:
        message = f"{scenario!r} is out of range; allowed: 16 to 16384 pixels, rates to 480"
        raise ValueError(message) from None


def contradiction(spec: JobSpec) -> tuple[str, str] | None:
    """Return the field at fault and what is wrong where no field alone can tell; None: nothing."""
    if spec.scenario is not None:
        try:
            video_of_scenario(spec.scenario)
        except ValueError as error:
            return "$.scenario", str(error)
    begin, end = spec.not_before, spec.deadline
    if begin is not None and end is not None and end <= begin:
        given = end.isoformat()
        return "$.deadline", f"given: {given}; allowed: after `not_before`, {begin.isoformat()}"
    return None
