"""When one attempt is ended: every bound by its figures, and what counts as life."""

import math

import pytest
from msgspec import structs

from events.job import FailureClass, LossCause
from events.media import EncodeStats, MadeFile
from events.spec import Engine, JobSpec, ResourceLimits
from services.config import Timeouts
from services.worker.guard.ending import Exceeded, Lost
from services.worker.guard.watch import FINISH_S, LOOKAHEAD_S_MAX, Watch
from services.worker.port import Broken, Made, Sample, Usage

BEGUN_S = 1000.0
FFMPEG = JobSpec(engine=Engine.FFMPEG)
MIB = 2**20
TIMEOUTS = Timeouts(stall_s=60.0, timeout_factor=20.0, timeout_s_min=600.0)


def watch(spec: JobSpec = FFMPEG) -> Watch:
    return Watch(spec, TIMEOUTS, BEGUN_S)


def sample(out_time_s: float = 0.0, frame: int = 0, size_bytes: int | None = None) -> Sample:
    return Sample(
        out_time_s=out_time_s,
        percent=None,
        frame=frame,
        fps=0.0,
        speed=0.0,
        bitrate_bps=None,
        size_bytes=size_bytes,
        eta_s=None,
        dropped=0,
    )


def at(age_s: float) -> float:
    return BEGUN_S + age_s


def stalled(reason: str) -> Lost:
    return Lost(LossCause.STALLED, reason)


class TestStall:
    def test_an_attempt_that_shows_nothing_from_its_start_is_stalled(self) -> None:
        silent = watch()
        assert silent.verdict(at(59.9)) is None
        assert silent.verdict(at(60)) == stalled("out_time stood at 0.0 s (frame 0) for 60.0 s")

    def test_a_late_look_excuses_nothing_of_an_attempt_that_stood_still_anyway(self) -> None:
        one = watch()
        one.pause(at(30))
        one.excuse(1000.0)
        one.resume(at(1030))
        assert one.verdict(at(1059.9)) is None
        assert one.verdict(at(1060)) is not None

    def test_an_attempt_is_stalled_so_long_after_its_last_progress(self) -> None:
        one = watch()
        one.progress(sample(12.0, 300, 5000), at(30))
        one.progress(sample(12.0, 300, 5000), at(80))
        assert one.verdict(at(89.9)) is None
        assert one.verdict(at(90)) == stalled("out_time stood at 12.0 s (frame 300) for 60.0 s")

    @pytest.mark.parametrize("more", [sample(12.1), sample(0, 301), sample(0, 0, 5001)])
    def test_time_frames_or_bytes_are_progress(self, more: Sample) -> None:
        one = watch()
        one.progress(sample(12.0, 300, 5000), at(30))
        one.progress(more, at(80))
        assert one.verdict(at(139)) is None
        assert one.verdict(at(140)) is not None

    def test_less_than_before_is_no_progress(self) -> None:
        one = watch()
        one.progress(sample(12.0, 300, 5000), at(30))
        one.progress(sample(11.0, 299, None), at(80))
        assert one.verdict(at(90)) is not None

    def test_a_pause_does_not_count(self) -> None:
        one = watch()
        one.progress(sample(12.0, 300), at(10))
        one.pause(at(40))
        assert one.verdict(at(5000)) is None
        one.resume(at(5000))
        assert one.verdict(at(5029)) is None
        assert one.verdict(at(5030)) == stalled("out_time stood at 12.0 s (frame 300) for 60.0 s")

    def test_two_pauses_add_up_and_a_repeated_one_is_one(self) -> None:
        one = watch()
        for begin, end in ((10, 110), (120, 220)):
            one.pause(at(begin))
            one.pause(at(begin + 50))
            one.resume(at(end))
            one.resume(at(end + 5))
        assert one.age_s(at(230)) == 30

    def test_a_time_in_which_the_worker_could_not_listen_does_not_count(self) -> None:
        one = watch()
        one.excuse(300)
        assert one.verdict(at(359)) is None
        assert one.verdict(at(360)) is not None

    def test_doing_nothing_is_no_stall(self) -> None:
        noop = watch(JobSpec(engine=Engine.NOOP, timeout_s=5000))
        assert noop.verdict(at(4999)) is None
        assert not noop.wants_usage(at(4999))

    def test_closing_what_was_made_has_a_bound_of_its_own(self) -> None:
        one = watch()
        one.progress(sample(12.0, 300), at(30))
        one.finishing(at(31))
        one.finishing(at(500))
        assert one.verdict(at(30 + FINISH_S)) is None
        assert one.verdict(at(31 + FINISH_S)) == stalled(
            "out_time stood at 12.0 s (frame 300) for 600.0 s"
            " while what was made was closed and looked at"
        )


class TestOtherLife:
    def test_a_quiet_attempt_is_measured_and_a_lively_or_paused_one_is_not(self) -> None:
        one = watch()
        assert not one.wants_usage(at(29))
        assert one.wants_usage(at(30))
        one.progress(sample(1.0), at(31))
        assert not one.wants_usage(at(60))
        one.pause(at(61))
        assert not one.wants_usage(at(500))

    def test_an_attempt_that_writes_its_files_lives(self) -> None:
        one = watch()
        one.progress(sample(12.0, 300), at(1))
        one.used(Usage(written_ns=5), at(30))
        one.used(Usage(written_ns=5), at(31))
        one.used(Usage(written_ns=6), at(50))
        assert one.verdict(at(109)) is None
        assert one.verdict(at(110)) is not None

    def test_an_encoder_that_works_before_its_first_frame_lives(self) -> None:
        one = watch()
        for age_s in range(30, 600, 10):
            one.used(Usage(cpu_s=age_s * 0.5), at(age_s))
            assert one.verdict(at(age_s)) is None

    def test_waiting_is_no_work(self) -> None:
        one = watch()
        for age_s in range(30, 60, 10):
            one.used(Usage(cpu_s=age_s * 0.05), at(age_s))
        assert one.verdict(at(60)) is not None

    def test_work_is_no_life_once_frames_have_come(self) -> None:
        one = watch()
        one.progress(sample(0.04, 1), at(1))
        for age_s in range(31, 61, 10):
            one.used(Usage(cpu_s=float(age_s)), at(age_s))
        assert one.verdict(at(61)) is not None

    def test_work_without_a_frame_is_no_life_for_ever(self) -> None:
        one = watch()
        age_s = 30.0
        while one.verdict(at(age_s)) is None:
            one.used(Usage(cpu_s=age_s), at(age_s))
            age_s += 10.0
        assert LOOKAHEAD_S_MAX <= age_s <= LOOKAHEAD_S_MAX + 70

    def test_the_cpu_time_of_another_process_is_counted_anew(self) -> None:
        one = watch()
        one.used(Usage(cpu_s=40.0), at(30))
        one.used(Usage(cpu_s=0.0), at(35))
        one.used(Usage(cpu_s=10.0), at(45))
        assert one.verdict(at(104)) is None
        assert one.verdict(at(105)) is not None


class TestTimeOut:
    def test_a_job_has_its_own(self) -> None:
        one = watch(structs.replace(FFMPEG, timeout_s=10.0))
        one.expects(100.0)
        one.progress(sample(3.0, 75), at(9))
        assert one.verdict(at(9.9)) is None
        assert one.verdict(at(10)) == Lost(
            LossCause.TIMED_OUT,
            "ran for 10.0 s, allowed: 10 s (its timeout_s); out_time was at 3.0 s (frame 75)",
        )

    @pytest.mark.parametrize(
        ("length_s", "timeout_s"), [(10.0, 600.0), (30.0, 600.0), (100.0, 2000.0), (None, math.inf)]
    )
    def test_or_one_by_its_length(self, length_s: float | None, timeout_s: float) -> None:
        one = watch()
        one.expects(length_s)
        until_s = min(timeout_s, 10_000.0)
        one.progress(sample(5.0), at(until_s - 1))
        assert one.verdict(at(until_s - 0.1)) is None
        ended = one.verdict(at(until_s))
        if timeout_s == math.inf:
            assert ended is None
        else:
            assert isinstance(ended, Lost)
            assert ended.reason == (
                f"ran for {timeout_s:.1f} s, allowed: {timeout_s:g} s (derived from its length); "
                "out_time was at 5.0 s (frame 0)"
            )

    def test_a_pause_does_not_count(self) -> None:
        one = watch(structs.replace(FFMPEG, timeout_s=10.0))
        one.pause(at(5))
        one.resume(at(100))
        assert one.verdict(at(104)) is None
        assert one.verdict(at(105)) is not None

    def test_a_noop_has_only_its_own(self) -> None:
        noop = watch(JobSpec(engine=Engine.NOOP, timeout_s=5))
        ended = noop.verdict(at(5))
        assert isinstance(ended, Lost)
        assert ended.cause is LossCause.TIMED_OUT


class TestLimits:
    SPEC = structs.replace(
        FFMPEG, limits=ResourceLimits(memory_bytes=64 * MIB, disk_bytes=10 * MIB)
    )

    def test_what_is_limited_is_measured_always(self) -> None:
        assert watch(self.SPEC).wants_usage(at(0))
        unlimited = structs.replace(FFMPEG, limits=ResourceLimits(cpu_threads=1))
        assert not watch(unlimited).wants_usage(at(0))

    def test_all_that_is_allowed_may_be_used(self) -> None:
        one = watch(self.SPEC)
        one.used(Usage(memory_bytes=64 * MIB, disk_bytes=10 * MIB), at(1))
        assert one.verdict(at(1)) is None

    def test_more_memory_is_for_another_node_to_try(self) -> None:
        one = watch(self.SPEC)
        one.used(Usage(memory_bytes=96 * MIB), at(1))
        assert one.verdict(at(1)) == Exceeded(
            FailureClass.RESOURCE,
            "used 96.0 MiB of memory; limits.memory_bytes allows 64.0 MiB",
        )

    def test_larger_files_would_be_as_large_anywhere(self) -> None:
        one = watch(self.SPEC)
        one.used(Usage(disk_bytes=11 * MIB), at(1))
        assert one.verdict(at(1)) == Exceeded(
            FailureClass.PERMANENT, "wrote 11.0 MiB; limits.disk_bytes allows 10.0 MiB"
        )

    def test_files_made_too_fast_to_be_measured_are_judged_at_the_end(self) -> None:
        stats = EncodeStats(frames=7)
        files = tuple(MadeFile(path=name, size_bytes=6 * MIB) for name in "ab")
        assert watch(self.SPEC).judge(Made(files=files, stats=stats)) == Broken(
            failure=FailureClass.PERMANENT,
            message="wrote 12.0 MiB; limits.disk_bytes allows 10.0 MiB",
            stats=stats,
        )
        small = Made(files=files[:1])
        assert watch(self.SPEC).judge(small) is small
        assert watch().judge(Made(files=files)) == Made(files=files)
