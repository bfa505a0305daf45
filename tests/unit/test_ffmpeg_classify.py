import pytest

from events.job import FailureClass
from events.media import Audio, AudioCodec, Container, Video, VideoCodec
from services.worker.ffmpeg.classify import Verdict, classify, clean, premature_end
from services.worker.ffmpeg.inspect import Least, Media, Stream, mismatch, parse
from services.worker.ffmpeg.plan import Rendition
from services.worker.ffmpeg.process import HEAD_LINES_MAX, LINE_CHARS_MAX, TAIL_LINES_MAX, Words

P, T = FailureClass.PERMANENT, FailureClass.TRANSIENT
R, I = FailureClass.RESOURCE, FailureClass.INFRASTRUCTURE  # noqa: E741 - a column of a table


@pytest.mark.parametrize(
    ("status", "line", "failure"),
    [
        (254, "Error opening input: No such file or directory", P),
        (235, "Error opening input: Is a directory", P),
        (183, "[mov @ 0x5] [error] moov atom not found", P),
        (183, "Error opening input: Invalid data found when processing input", P),
        (69, "[fatal] Decode error rate 0.02 exceeds maximum 0", P),
        (8, "[fatal] Unknown encoder 'nosuch'", R),
        (234, "[error] Error setting preset/tune bogus/(null).", P),
        (8, "[fatal] Unrecognized option 'x'.", P),
        (187, "[libx264] [error] width not divisible by 2 (321x240)", P),
        (228, "[error] Error writing trailer: No space left on device", R),
        (243, "[fatal] Error opening output file:/x: Permission denied", R),
        (254, "[fatal] Error opening output file:/x: No such file or directory", R),
        (254, "[out#0/mp4] [error] Error writing trailer: No such file or directory", R),
        (254, "[in#0] [error] Error opening input: No such file or directory", P),
        (255, "[h264_nvenc] [error] Cannot load libcuda.so.1", R),
        (234, "No VA display found for device /dev/dri/renderD128.", R),
        (171, "[h264_qsv] [error] Error creating a MFX session: -9.", R),
        (145, "Error opening input: Connection refused", T),
        (251, "Failed to resolve hostname nowhere: Name or service not known", T),
        (146, "Connection timed out", T),
        (224, "av_interleaved_write_frame(): Broken pipe", T),
        (187, "HTTP error 503 Service Unavailable", T),
        (187, "HTTP error 404 Not Found", P),
        (245, "pthread_create() failed", R),
        (245, "[vf#0:0] Error: Resource temporarily unavailable", R),
        (187, "malloc of size 1234567 failed", R),
        (244, "[error] Cannot allocate memory", R),
        (255, "[h264_nvenc] [error] OpenEncodeSessionEx failed: out of memory (10)", R),
        (255, "[h264_nvenc] [error] OpenEncodeSessionEx failed: incompatible client key (21)", R),
        (255, "[hevc_nvenc] [error] No capable devices found", R),
        (187, "[h264_nvenc] [error] EncodePicture failed!: device does not exist (5)", R),
        (187, "[AVHWDeviceContext] [error] cu->cuInit(0) failed -> CUDA_ERROR_NO_DEVICE", R),
        (187, "[h264_qsv] [error] Error during encoding: device failed (-17)", R),
        (171, "[h264_qsv] [error] Error initializing an internal MFX session: unsupported (-3)", R),
        (234, "Device creation failed: -542398533.", R),
        (152, "[tcp] [error] Connection to tcp://h:1 failed: Connection reset by peer", T),
        (151, "[http] [error] Software caused connection abort", T),
        (146, "[tls] [error] Operation timed out", T),
        (155, "[tcp] [error] Connection to tcp://h:1 failed: No route to host", T),
        (187, "[rtmp] [error] Cannot read RTMP handshake response", T),
        (8, "[in#0] [error] Error opening input: Server returned 429 Too Many Requests", T),
        (8, "[in#0] [error] Error opening input: Server returned 5XX Server Error reply", T),
        (8, "[http] [warning] HTTP error 500 Internal Server Error", T),
        (8, "[in#0] [error] Error opening input: Server returned 401 Unauthorized", P),
        (8, "[in#0] [error] Error opening input: Server returned 403 Forbidden (access denied)", P),
        (8, "[in#0] [error] Error opening input: Server returned 4XX Client Error, but no", P),
        (251, "[out#0/flv] [fatal] Error opening output rtmp://h/a/b: Input/output error", P),
        (255, "[rtmp] [error] Server error: Already publishing", P),
        (234, "[fatal] Stream map '0:v:9' matches no streams.", P),
        (234, "[error] Unable to find a suitable output format for 'x.nosuch'", P),
        (1, "Video codec vp9 not compatible with flv", P),
    ],
)
def test_words_tell_the_failure(status: int, line: str, failure: FailureClass) -> None:
    noise = ["[warning] deprecated pixel format", "Conversion failed!"]
    assert classify(status, [noise[0], line, noise[1]]) == Verdict(failure, clean(line))
    assert classify(1, [line]).failure is failure  # ffmpeg 5 exits with 1 for everything


def test_the_nodes_own_trouble_outweighs_what_follows_from_it() -> None:
    lines = ["Cannot load libcuda.so.1", "Error while opening encoder - maybe incorrect parameters"]
    assert classify(255, lines) == Verdict(R, "Cannot load libcuda.so.1")


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (145, Verdict(T, "exit status 145: connection refused")),
        (228, Verdict(R, "exit status 228: no space left on device")),
        (127, Verdict(I, "exit status 127: ffmpeg is not there")),
        (42, Verdict(T, "exit status 42: not seen before")),
        (-9, Verdict(R, "ended by SIGKILL: by hand, or for want of memory")),
        (-25, Verdict(R, "ended by SIGXFSZ: file size limit")),
        (-11, Verdict(T, "ended by SIGSEGV: not by this worker")),
        (-99, Verdict(T, "ended by signal 99: not by this worker")),
    ],
)
def test_a_process_that_said_nothing_is_judged_by_its_status(status: int, verdict: Verdict) -> None:
    assert classify(status, []) == verdict


def test_a_killed_process_is_not_judged_by_what_it_said_of_its_input() -> None:
    assert classify(-9, ["moov atom not found"]).failure is R
    assert classify(-11, ["[error] No space left on device"]).message == "No space left on device"


def test_unknown_words_are_passed_on_the_severe_ones_first() -> None:
    lines = ["[x @ 0x7ff1] [error] the sky fell", "bye"]
    assert classify(42, lines).message == "exit status 42: not seen before; [x] the sky fell"
    assert len(classify(42, ["[error] " + "x" * 5000]).message) == 500


def test_an_input_that_broke_off_is_seen_though_the_status_is_0() -> None:
    assert premature_end(["[in#0 @ 0x1] [error] File ended prematurely"]) == (
        "[in#0] File ended prematurely"
    )
    assert premature_end(["all is well"]) is None


HEADER = """#software: Lavf63
#tb 0: 1/12800
#media_type 0: video
#codec_id 0: h264
#dimensions 0: 320x240
#sar 0: 1/1
#media_type 1: audio
#codec_id 1: aac
#sample_rate 1: 48000
0,      -1024,          0,      512,     5159, 0x3113aa7a
"""
WORDS = [
    "  Duration: 01:02:03.50, start: 0.000000, bitrate: 280 kb/s",
    "  Stream #0:0: Video: h264 (High), yuv420p(tv), 320x240 [SAR 1:1], 29.97 fps, 30 tbr",
]
VIDEO = Stream(kind="video", codec="h264", width=320, height=240, rate=29.97)
SOUND = Stream(kind="audio", codec="aac", sample_rate_hz=48_000)


def test_a_file_is_described_by_header_and_words() -> None:
    assert parse(HEADER, WORDS) == Media(streams=(VIDEO, SOUND), duration_s=3723.5)
    assert parse("", ["  Duration: N/A, start: 0"]) == Media()
    assert parse("#dimensions 0: x\n#nonsense", ["Video: x"]) == Media()


RENDITION = Rendition(
    path="x.mp4",
    container=Container.MP4,
    codec=VideoCodec.H264,
    video=Video(width=320, height=240),
    audio_codec=AudioCodec.AAC,
    audio=Audio(),
)
WHOLE = Media(streams=(VIDEO, SOUND), duration_s=10.0)


def least(written_s: float = 10.0, asked_s: float = 10.0, *, fetched: bool = False) -> Least:
    return Least(written_s=written_s, asked_s=asked_s, fetched=fetched, audio=True)


@pytest.mark.parametrize(
    ("made", "bound", "verdict"),
    [
        (WHOLE, least(), None),
        (Media(streams=(VIDEO, SOUND), duration_s=9.6), least(), None),
        (Media(streams=(VIDEO, SOUND), duration_s=12.0), least(), None),
        (
            Media(streams=(VIDEO, SOUND), duration_s=9.0),
            least(),
            Verdict(R, "x.mp4 holds 9.00 s of 10.00 s written"),
        ),
        (
            Media(streams=(VIDEO, SOUND), duration_s=3.0),
            least(3.0),
            Verdict(P, "x.mp4 holds 3.00 s of 10.00 s asked for"),
        ),
        (
            Media(streams=(VIDEO, SOUND), duration_s=3.0),
            least(3.0, fetched=True),
            Verdict(T, "x.mp4 holds 3.00 s of 10.00 s asked for"),
        ),
        (Media(streams=(SOUND,)), least(), Verdict(P, "x.mp4: has no video")),
        (Media(streams=(VIDEO,)), least(), Verdict(P, "x.mp4: has audio none, not aac")),
        (
            Media(streams=(Stream(kind="video", codec="vp9"),)),
            least(),
            Verdict(P, "x.mp4: is vp9, not h264"),
        ),
        (
            Media(streams=(Stream(kind="video", codec="h264", width=322, height=240),)),
            least(),
            Verdict(P, "x.mp4: is 322x240, not 320x240"),
        ),
        (Verdict(P, "moov"), least(), Verdict(R, "x.mp4 is unreadable: moov")),
    ],
)
def test_an_output_is_what_was_asked_or_the_difference_is_named(
    made: Media | Verdict, bound: Least, verdict: Verdict | None
) -> None:
    assert mismatch(RENDITION, made, bound) == verdict


def test_of_a_flood_of_words_the_first_and_the_last_are_kept() -> None:
    words = Words()
    words.feed(b"".join(b"%d\n" % n for n in range(10_000)))
    kept = words.lines()
    assert len(kept) == HEAD_LINES_MAX + TAIL_LINES_MAX
    assert (kept[0], kept[-1]) == ("0", "9999")


def test_lines_are_cut_joined_and_split_at_carriage_returns() -> None:
    words = Words()
    assert words.feed(b"one\rtwo\n\nthr") == ["one", "two"]
    assert words.feed(b"ee\nrest") == ["three"]
    assert words.rest() == ["rest"]
    assert words.feed(b"x" * 10 * LINE_CHARS_MAX + b"\n") == ["x" * LINE_CHARS_MAX]
