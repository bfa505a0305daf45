"""How jobs rank, and what a node must have to run them."""

import pytest

from events.media import Audio, AudioCodec, Output, Parameters, Video, VideoCodec
from events.spec import Engine, JobSpec, Priority, Queue
from events.state.job import Terms
from services.scheduler.state.weights import order_key, requirements, weight
from tests.vocabulary import T0, instant


def key(queue: Queue, priority: Priority, submitted_s: int = 0) -> float:
    spec = JobSpec(queue=queue, priority=priority)
    return order_key(Terms(1, instant(submitted_s), spec, queue, priority), 60.0)


class TestWeight:
    @pytest.mark.parametrize(
        ("queue", "weights"),
        [(Queue.LIVE, (30, 20, 10)), (Queue.DEFAULT, (15, 10, 5)), (Queue.BATCH, (3, 2, 1))],
    )
    def test_it_is_queue_times_priority(self, queue: Queue, weights: tuple[int, ...]) -> None:
        assert tuple(weight(queue, priority) for priority in Priority) == weights

    def test_every_queue_and_priority_has_one(self) -> None:
        assert all(weight(queue, priority) >= 1 for queue in Queue for priority in Priority)


class TestOrderKey:
    def test_it_is_the_instant_of_submission_less_the_head_start(self) -> None:
        assert key(Queue.LIVE, Priority.HIGH) == T0.timestamp() - 1800
        assert key(Queue.BATCH, Priority.LOW) == T0.timestamp() - 60

    def test_inside_a_weight_the_earlier_submission_is_first(self) -> None:
        assert key(Queue.BATCH, Priority.LOW, 0) < key(Queue.BATCH, Priority.LOW, 1)

    def test_equal_weights_of_different_queues_rank_alike(self) -> None:
        assert key(Queue.LIVE, Priority.LOW) == key(Queue.DEFAULT, Priority.MEDIUM)

    @pytest.mark.parametrize(("head_s", "overtakes"), [(1739, True), (1741, False)])
    def test_the_lightest_job_is_overtaken_for_29_minutes(
        self, head_s: int, *, overtakes: bool
    ) -> None:
        lightest = key(Queue.BATCH, Priority.LOW)
        assert (key(Queue.LIVE, Priority.HIGH, head_s) < lightest) is overtakes

    def test_the_current_queue_counts_not_the_submitted_one(self) -> None:
        spec = JobSpec(queue=Queue.BATCH, priority=Priority.LOW)
        terms = Terms(1, T0, spec, Queue.LIVE, Priority.HIGH)
        assert order_key(terms, 60.0) == T0.timestamp() - 1800


HEVC, NVENC = Video(codec=VideoCodec.HEVC), Video(encoder="hevc_nvenc")
SMALL = Video(width=640)
OPUS, MUTE, MONO = Audio(codec=AudioCodec.OPUS), Audio(codec=AudioCodec.NONE), Audio(channels=1)
REQUIREMENTS: tuple[tuple[JobSpec, set[str]], ...] = (
    (JobSpec(), {"engine:ffmpeg", "codec:h264"}),
    (JobSpec(engine=Engine.FFMPEG), {"engine:ffmpeg", "codec:h264"}),
    (JobSpec(engine=Engine.GSTREAMER), {"engine:gstreamer", "codec:h264"}),
    (JobSpec(engine=Engine.NOOP), {"engine:noop"}),
    (
        JobSpec(requires=("gpu", "label:zone=eu")),
        {"engine:ffmpeg", "codec:h264", "gpu", "label:zone=eu"},
    ),
    (JobSpec(engine=Engine.NOOP, requires=("gpu",)), {"engine:noop", "gpu"}),
    (JobSpec(engine=Engine.NOOP, scenario="1080p30-hevc"), {"engine:noop"}),
    (JobSpec(scenario="1080p30-h264"), {"engine:ffmpeg", "codec:h264"}),
    (JobSpec(scenario="4K60-h265"), {"engine:ffmpeg", "codec:hevc"}),
    (JobSpec(scenario="640x360@25-vp9"), {"engine:ffmpeg", "codec:vp9"}),
    (JobSpec(parameters=Parameters(video=HEVC)), {"engine:ffmpeg", "codec:hevc"}),
    (JobSpec(parameters=Parameters(video=NVENC)), {"engine:ffmpeg", "encoder:hevc_nvenc"}),
    (JobSpec(parameters=Parameters(video=SMALL)), {"engine:ffmpeg", "codec:h264"}),
    (JobSpec(parameters=Parameters(audio=OPUS)), {"engine:ffmpeg", "codec:h264", "codec:opus"}),
    (JobSpec(parameters=Parameters(audio=MUTE)), {"engine:ffmpeg", "codec:h264"}),
    (JobSpec(parameters=Parameters(audio=MONO)), {"engine:ffmpeg", "codec:h264"}),
    (
        JobSpec(parameters=Parameters(audio=OPUS), outputs=(Output(audio=MONO),)),
        {"engine:ffmpeg", "codec:h264", "codec:opus"},
    ),
    (
        JobSpec(parameters=Parameters(audio=OPUS), outputs=(Output(audio=MUTE),)),
        {"engine:ffmpeg", "codec:h264"},
    ),
    (
        JobSpec(parameters=Parameters(video=HEVC), outputs=(Output(video=SMALL), Output())),
        {"engine:ffmpeg", "codec:hevc"},
    ),
    (
        JobSpec(scenario="1080p30-h264", parameters=Parameters(video=HEVC)),
        {"engine:ffmpeg", "codec:hevc"},
    ),
    (
        JobSpec(scenario="1080p30-h264", parameters=Parameters(audio=OPUS)),
        {"engine:ffmpeg", "codec:h264", "codec:opus"},
    ),
    (
        JobSpec(outputs=(Output(video=HEVC), Output(video=NVENC, audio=OPUS))),
        {"engine:ffmpeg", "codec:hevc", "encoder:hevc_nvenc", "codec:opus"},
    ),
)


class TestRequirements:
    @pytest.mark.parametrize(("spec", "needed"), REQUIREMENTS)
    def test_a_node_must_have_engine_codecs_and_what_is_asked_for(
        self, spec: JobSpec, needed: set[str]
    ) -> None:
        assert requirements(spec) == needed
