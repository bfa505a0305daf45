"""What a node must have to run a job."""

import pytest

from events.ids import NodeId
from events.media import Audio, AudioCodec, Output, Parameters, Video, VideoCodec
from events.spec import Engine, JobSpec, ResourceLimits
from services.scheduler.state.needs import need_of, requirements

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

    @pytest.mark.parametrize(("spec", "needed"), REQUIREMENTS)
    def test_they_are_part_of_its_need(self, spec: JobSpec, needed: set[str]) -> None:
        assert need_of(spec).capabilities == needed


class TestCounted:
    def test_a_job_without_limits_counts_for_its_slot_alone(self) -> None:
        need = need_of(JobSpec())
        assert (need.cpu_threads, need.memory_bytes, need.gpus, need.sessions) == (0, 0, 0, 0)

    def test_limits_are_what_it_needs(self) -> None:
        need = need_of(JobSpec(limits=ResourceLimits(cpu_threads=4, memory_bytes=2**30)))
        assert (need.cpu_threads, need.memory_bytes) == (4, 2**30)

    def test_each_output_of_a_hardware_encoder_takes_a_session_and_no_device(self) -> None:
        outputs = (Output(video=NVENC), Output(video=NVENC), Output(video=HEVC))
        need = need_of(JobSpec(outputs=outputs, requires=("gpu",)))
        assert (need.sessions, need.gpus, need.codecs) == (2, 0, ("hevc",))

    @pytest.mark.parametrize("encoder", ["h264_nvenc", "hevc_qsv", "av1_vaapi"])
    def test_hardware_encoders_are_known_by_their_names(self, encoder: str) -> None:
        assert need_of(JobSpec(outputs=(Output(video=Video(encoder=encoder)),))).sessions == 1

    def test_a_job_that_requires_a_gpu_for_anything_else_takes_a_device(self) -> None:
        need = need_of(JobSpec(requires=("gpu",)))
        assert (need.gpus, need.sessions, need.wants_gpu) == (1, 0, True)

    def test_jobs_that_differ_only_in_their_files_need_the_same(self) -> None:
        one, other = JobSpec(input="a.mov"), JobSpec(input="b.mov")
        assert need_of(one) == need_of(other)
        assert hash(need_of(one)) == hash(need_of(other))

    def test_the_order_in_which_nodes_failed_makes_no_difference(self) -> None:
        n1, n2 = NodeId("n1"), NodeId("n2")
        assert need_of(JobSpec(), (n2, n1)) == need_of(JobSpec(), (n1, n2))
