from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.worker.ffmpeg.progress import LINE_BYTES_MAX, ProgressReader
from services.worker.port import Sample

BLOCK = b"""frame=60
fps=59.50
stream_0_0_q=28.0
bitrate= 523.1kbits/s
total_size=131072
out_time_us=2000000
out_time_ms=2000000
out_time=00:00:02.000000
dup_frames=0
drop_frames=3
speed=   2x
progress=continue
"""
END = b"progress=continue\n"


def test_a_block_is_one_sample() -> None:
    assert ProgressReader(8.0).feed(BLOCK) == [
        Sample(
            out_time_s=2.0,
            percent=25.0,
            frame=60,
            fps=59.5,
            speed=2.0,
            bitrate_bps=523_100.0,
            size_bytes=131_072,
            eta_s=3.0,
            dropped=3,
        )
    ]


def test_nothing_is_said_before_the_block_ends() -> None:
    reader = ProgressReader(8.0)
    assert reader.feed(BLOCK[:-1]) == []
    assert len(reader.feed(b"\n")) == 1


def test_what_is_not_available_is_none_and_an_unknown_length_has_no_percent() -> None:
    text = b"frame=0\nfps=0.00\nbitrate=N/A\ntotal_size=N/A\nout_time_us=N/A\nspeed=N/A\n"
    (sample,) = ProgressReader(None).feed(text + b"progress=continue\n")
    assert sample == Sample(
        out_time_s=0.0,
        percent=None,
        frame=0,
        fps=0.0,
        speed=0.0,
        bitrate_bps=None,
        size_bytes=None,
        eta_s=None,
        dropped=0,
    )


def test_time_never_goes_back_and_percent_stays_within_bounds() -> None:
    reader = ProgressReader(1.0)
    times = (-5, 500_000, 400_000, 9_000_000)
    text = b"".join(b"out_time_us=%d\nprogress=continue\n" % time for time in times)
    assert [(s.out_time_s, s.percent) for s in reader.feed(text)] == [
        (0.0, 0.0),
        (0.5, 50.0),
        (0.5, 50.0),
        (9.0, 100.0),
    ]


def test_values_of_one_block_are_not_taken_for_those_of_the_next() -> None:
    samples = ProgressReader(8.0).feed(BLOCK + b"progress=end\n")
    assert [s.frame for s in samples] == [60, 0]


def test_numbers_no_reader_of_the_log_could_hold_are_left_out() -> None:
    (sample,) = ProgressReader(8.0).feed(b"frame=1e300\ntotal_size=99999999999999999999\n" + END)
    assert (sample.frame, sample.size_bytes) == (0, None)


def test_a_line_too_long_is_skipped_and_no_more() -> None:
    reader = ProgressReader(8.0)
    assert reader.feed(b"x" * (LINE_BYTES_MAX + 1)) == []
    assert reader.feed(b"progress=end\n") == []
    assert reader.feed(b"x" * (LINE_BYTES_MAX + 1)) == []
    assert reader.feed(b"y" * LINE_BYTES_MAX + b"\n" + BLOCK)[0].frame == 60


VALUES = st.sampled_from([b"1e999", b"nan", b"-inf", b"N/A", b"", b"12", b" 3.5x", b"\xff\xfe"])
KEYS = st.sampled_from([b"frame", b"out_time_us", b"speed", b"bitrate", b"progress", b"\x00"])
LINES = st.tuples(KEYS, VALUES).map(lambda pair: b"=".join(pair) + b"\n")
STREAMS = st.lists(
    st.one_of(
        LINES,
        st.integers(-(10**9), 10**12).map(lambda n: b"out_time_us=%d\nprogress=continue\n" % n),
        st.binary(max_size=40),
        st.just(BLOCK),
        st.integers(LINE_BYTES_MAX - 1, LINE_BYTES_MAX + 1).map(lambda n: b"z" * n + b"\n"),
    ),
    max_size=20,
).map(b"".join)


@given(data=STREAMS, cuts=st.lists(st.integers(0, 4000), max_size=12))
def test_samples_do_not_depend_on_how_the_bytes_arrive(data: bytes, cuts: list[int]) -> None:
    whole = ProgressReader(10.0).feed(data)
    reader = ProgressReader(10.0)
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [sample for a, b in pairwise(bounds) for sample in reader.feed(data[a:b])]
    assert pieces == whole


@given(data=STREAMS)
def test_progress_never_goes_back_whatever_the_bytes(data: bytes) -> None:
    samples = ProgressReader(10.0).feed(data)
    percents = [sample.percent for sample in samples]
    assert all(p is not None and 0 <= p <= 100 for p in percents)
    assert all(a.out_time_s <= b.out_time_s for a, b in pairwise(samples))
    assert all(s.frame >= 0 and s.speed >= 0 and s.dropped >= 0 for s in samples)
