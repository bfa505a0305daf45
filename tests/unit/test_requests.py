"""What is asked for, and how bad requests are refused."""

import random
from typing import TypeAlias

import pytest
from msgspec import inspect, json

from events.ids import END_OF_TEXT, JobId
from events.media import Output, TestSource, Video, VideoCodec
from events.requests import (
    BODY_BYTES_MAX,
    BULK_JOBS_MAX,
    CancelJob,
    InvalidRequest,
    SubmitJob,
    SubmitMany,
    decode_request,
    derive_job_id,
    spec_of,
)
from events.spec import JobSpec, Priority, Queue, video_of_scenario
from events.strict import described

Kind: TypeAlias = type[SubmitJob | SubmitMany | CancelJob]

SPEC_FIELDS = ", ".join(sorted(SubmitJob.__struct_fields__))
SCENARIOS = (
    "`<height>p<rate>-<codec>`, `4K<rate>-<codec>`, `<width>x<height>@<rate>-…`; "
    "for example 1080p30-h264, 4K60-h265, 640x360@25-vp9"
)
TOKEN = "1 to 64 letters, digits, `_` or `-`"
VIDEO_FIELDS = "bitrate_bps, codec, crf, encoder, height, preset, rate, width"

REFUSALS: tuple[tuple[Kind, str, str, str, str], ...] = (
    (SubmitJob, '{"queue":"soon"}', "$.queue", '"soon"', "live, default, batch"),
    (SubmitJob, '{"job_id":"a b"}', "$.job_id", '"a b"', TOKEN),
    (SubmitJob, r'{"job_id":"a\n"}', "$.job_id", r'"a\n"', TOKEN),
    (SubmitJob, '{"depends_on":["a","b.c"]}', "$.depends_on[1]", '"b.c"', TOKEN),
    (SubmitJob, '{"scenario":"big"}', "$.scenario", '"big"', SCENARIOS),
    (SubmitJob, '{"attempts_max":0}', "$.attempts_max", "0", "a whole number, 1 to 100"),
    (SubmitJob, '{"attempts_max":2.5}', "$.attempts_max", "2.5", "a whole number, 1 to 100"),
    (SubmitJob, '{"timeout_s":-1}', "$.timeout_s", "-1", "a number, above 0, at most 604800"),
    (
        SubmitJob,
        '{"parameters":{"video":{"width":17}}}',
        "$.parameters.video.width",
        "17",
        "a whole number, 16 to 16384, a multiple of 2",
    ),
    (
        SubmitJob,
        '{"parameters":{"video":{"widht":640}}}',
        "$.parameters.video.widht",
        "640",
        VIDEO_FIELDS,
    ),
    (
        SubmitJob,
        '{"outputs":[{},{"pth":"a.mp4"}]}',
        "$.outputs[1].pth",
        '"a.mp4"',
        "audio, container, path, video",
    ),
    (
        SubmitJob,
        '{"input":{"noise":101}}',
        "$.input.noise",
        "101",
        "a whole number, 0 to 100",
    ),
    (
        SubmitJob,
        '{"labels":{"a":"b","c.d":3}}',
        "$.labels.c.d",
        "3",
        "text of at most 255 characters",
    ),
    (
        SubmitJob,
        '{"labels":{"a":"b","c d":"e"}}',
        "$.labels.c d",
        '"c d"',
        "text that matches ^[A-Za-z0-9_./-]{1,63}$",
    ),
    (SubmitJob, '{"labels":[]}', "$.labels", "[]", "an object of at most 32 entries"),
    (
        SubmitJob,
        '{"not_before":"2026-01-31T12:00:00"}',
        "$.not_before",
        '"2026-01-31T12:00:00"',
        "an instant with its time zone, as 2026-01-31T12:00:00Z",
    ),
    (SubmitJob, '{"prio":"high"}', "$.prio", '"high"', SPEC_FIELDS),
    (SubmitJob, "[]", "$", "[]", f"an object of {SPEC_FIELDS}"),
    (SubmitJob, "null", "$", "null", f"an object of {SPEC_FIELDS}"),
    (SubmitJob, '{"queue":', "$", '{"queue":', "a JSON object"),
    (SubmitJob, '{"a":1e999}', "$", '{"a":1e999}', "any JSON"),
    (
        SubmitJob,
        '{"attempts_max":1e999}',
        "$.attempts_max",
        '{"attempts_max":1e999}',
        "a whole number, 1 to 100",
    ),
    (
        SubmitJob,
        '{"scenario":"9999p30-h264"}',
        "$.scenario",
        "9999p30-h264",
        "16 to 16384 pixels, rates to 480",
    ),
    (
        SubmitJob,
        '{"not_before":"2026-01-31T12:00:00Z","deadline":"2026-01-31T11:00:00Z"}',
        "$.deadline",
        "2026-01-31T11:00:00+00:00",
        "after `not_before`, 2026-01-31T12:00:00+00:00",
    ),
    (CancelJob, "{}", "$.job_id", "nothing", TOKEN),
    (CancelJob, '{"job_id":"j","why":"x"}', "$.why", '"x"', "by, job_id, reason"),
    (SubmitMany, "", "$.jobs", "nothing", "a list of 1 to 1000 entries"),
    (SubmitMany, '{"jobs":[]}', "$.jobs", "[]", "a list of 1 to 1000 entries"),
)


class TestDecodeRequest:
    def test_an_empty_body_is_a_request_without_wishes(self) -> None:
        assert decode_request(SubmitJob, b" \n") == SubmitJob()

    def test_a_request_is_read_at_every_depth(self) -> None:
        body = (
            b'{"job_id":"j","queue":"live","priority":"high","input":{"width":640},'
            b'"outputs":[{"video":{"codec":"vp9"}}],"labels":{"a":"b"}}'
        )
        assert decode_request(SubmitJob, body) == SubmitJob(
            job_id=JobId("j"),
            queue=Queue.LIVE,
            priority=Priority.HIGH,
            input=TestSource(width=640),
            outputs=(Output(video=Video(codec=VideoCodec.VP9)),),
            labels={"a": "b"},
        )

    @pytest.mark.parametrize(
        ("kind", "body", "field", "given", "allowed"),
        REFUSALS,
        ids=[f"{kind.__name__}:{body[:40]}" for kind, body, *_ in REFUSALS],
    )
    def test_a_refusal_names_field_given_and_allowed(
        self, kind: Kind, body: str, field: str, given: str, allowed: str
    ) -> None:
        with pytest.raises(InvalidRequest) as refused:
            decode_request(kind, body.encode())
        assert refused.value.field == field
        assert refused.value.message.startswith(f"{field}: ")
        assert given in refused.value.message
        assert refused.value.message.endswith(f"allowed: {allowed}")
        assert str(refused.value) == refused.value.message

    def test_a_body_that_is_too_long_is_refused_unread(self) -> None:
        with pytest.raises(InvalidRequest) as refused:
            decode_request(SubmitJob, b"{" * (BODY_BYTES_MAX + 1))
        assert str(refused.value) == "$: given: 524289 bytes; allowed: at most 524288"

    def test_more_jobs_than_a_bulk_may_have_are_refused(self) -> None:
        body = json.encode({"jobs": [{}] * (BULK_JOBS_MAX + 1)})
        with pytest.raises(InvalidRequest, match="allowed: a list of 1 to 1000 entries"):
            decode_request(SubmitMany, body)

    def test_a_long_value_is_shown_by_its_head(self) -> None:
        with pytest.raises(InvalidRequest) as refused:
            decode_request(SubmitJob, json.encode({"tenant": "x" * 5_000}))
        assert len(str(refused.value)) < 700

    def test_what_cannot_be_printed_is_not_shown(self) -> None:
        with pytest.raises(InvalidRequest) as refused:
            decode_request(SubmitJob, b'{"queue":"\x1b[2J\xff"}')
        assert str(refused.value).isprintable()

    @pytest.mark.parametrize("depth", [100, 900, 1_000, 5_000])
    @pytest.mark.parametrize("field", ["x", "labels", "input", "outputs"])
    def test_deep_nesting_is_refused(self, field: str, depth: int) -> None:
        body = f'{{"{field}":{"[" * depth}{"]" * depth}}}'.encode()
        with pytest.raises(InvalidRequest):
            decode_request(SubmitJob, body)

    @pytest.mark.parametrize("kind", [SubmitJob, SubmitMany, CancelJob])
    def test_garbage_never_raises_anything_else(self, kind: Kind) -> None:
        dice = random.Random(11)
        refusals = [_refusal(kind, _garbage(dice)) for _ in range(1_000)]
        told = [refusal for refusal in refusals if refusal is not None]
        assert len(told) > 800
        assert all(refusal.field.startswith("$") for refusal in told)
        assert all("given: " in refusal.message for refusal in told)
        assert all("allowed: " in refusal.message for refusal in told)

    def test_every_valid_value_is_accepted(self) -> None:
        requests = (SubmitJob(), SubmitJob(scenario="4K60-h265"), SubmitJob(labels={"a.b/c": ""}))
        for request in requests:
            assert decode_request(SubmitJob, json.encode(request)) == request


class TestPatterns:
    def test_every_pattern_ends_where_the_text_ends(self) -> None:
        patterns = set(_patterns(inspect.type_info(SubmitJob)))
        assert len(patterns) >= 6
        assert [pattern for pattern in patterns if not pattern.endswith(END_OF_TEXT)] == []


class TestDescribed:
    def test_types_are_told_in_words(self) -> None:
        assert described(inspect.type_info(bool)) == "true or false"
        assert described(inspect.type_info(None)) == "null"
        assert described(inspect.type_info(list[int])) == "a list"
        assert described(inspect.type_info(dict[str, int])) == "an object"
        assert described(inspect.type_info(int | str)) == "a whole number or text"


class TestDeriveJobId:
    def test_the_callers_id_comes_first(self) -> None:
        request = decode_request(SubmitJob, b'{"job_id":"mine","idempotency_key":"k"}')
        assert derive_job_id(request, message_id="m", command_seq=1) == "mine"

    def test_ids_are_the_same_in_every_release(self) -> None:
        assert derive_job_id(SubmitJob(idempotency_key="k"), message_id="m") == (
            "8b105be0-3f94-5936-9bab-a126ef3e19d9"
        )
        assert derive_job_id(SubmitJob(), message_id="m", command_seq=1) == (
            "09a4bebc-feec-5948-8949-73938a257576"
        )
        assert derive_job_id(SubmitJob(), command_seq=1) == "f4315503-5ac5-5f26-97dc-0c7562aba621"

    def test_without_anything_to_go_by_there_is_none(self) -> None:
        assert derive_job_id(SubmitJob()) is None
        assert derive_job_id(SubmitJob(), message_id="") is None


class TestSpecOf:
    def test_the_address_is_left_out(self) -> None:
        request = decode_request(SubmitJob, b'{"job_id":"mine","queue":"live"}')
        assert spec_of(request) == JobSpec(queue=Queue.LIVE)


class TestVideoOfScenario:
    @pytest.mark.parametrize(
        ("scenario", "video"),
        [
            ("1080p30-h264", Video(codec=VideoCodec.H264, width=1920, height=1080, rate=30.0)),
            ("4K60-h265", Video(codec=VideoCodec.HEVC, width=3840, height=2160, rate=60.0)),
            ("8k24-av1", Video(codec=VideoCodec.AV1, width=7680, height=4320, rate=24.0)),
            ("641x361@29.97-vp9", Video(codec=VideoCodec.VP9, width=642, height=362, rate=29.97)),
            ("480p25-hevc", Video(codec=VideoCodec.HEVC, width=854, height=480, rate=25.0)),
        ],
    )
    def test_size_rate_and_codec_are_read(self, scenario: str, video: Video) -> None:
        assert video_of_scenario(scenario) == video

    @pytest.mark.parametrize("scenario", ["", "1080p", "10p30-h264", "720p481-h264", "720p30-mp3"])
    def test_what_no_video_can_be_is_refused(self, scenario: str) -> None:
        with pytest.raises(ValueError, match="allowed"):
            video_of_scenario(scenario)


def _refusal(kind: Kind, body: bytes) -> InvalidRequest | None:
    try:
        decode_request(kind, body)
    except InvalidRequest as refusal:
        return refusal
    return None


def _garbage(dice: random.Random) -> bytes:
    """Return random bytes, random JSON or a valid request with one byte flipped."""
    match dice.randrange(3):
        case 0:
            return dice.randbytes(dice.randrange(1, 60))
        case 1:
            return json.encode(_json(dice, 4))
        case _:
            body = bytearray(b'{"job_id":"j","labels":{"a":"b"},"outputs":[{"path":"x"}],"jobs":5}')
            body[dice.randrange(len(body))] = dice.randrange(256)
            return bytes(body)


def _json(dice: random.Random, depth: int) -> object:
    scalars: tuple[object, ...] = (None, True, -1, 2**60, 0.5, "", "live", "a b", "\n")
    kind = dice.randrange(3) if depth else 2
    if kind == 0:
        return [_json(dice, depth - 1) for _ in range(dice.randrange(4))]
    if kind == 1:
        names = ("labels", "input", "outputs", "video", "parameters", "job_id", "jobs", "a`b", "..")
        return {dice.choice(names): _json(dice, depth - 1) for _ in range(dice.randrange(4))}
    return dice.choice(scalars)


def _patterns(info: inspect.Type) -> list[str]:
    match info:
        case inspect.StrType(pattern=str() as pattern):
            return [pattern]
        case inspect.Metadata(type=inner):
            return _patterns(inner)
        case inspect.UnionType(types=types):
            return [found for part in types for found in _patterns(part)]
        case inspect.StructType(fields=fields):
            return [found for field in fields for found in _patterns(field.type)]
        case inspect.VarTupleType(item_type=item):
            return _patterns(item)
        case inspect.DictType(key_type=key, value_type=value):
            return _patterns(key) + _patterns(value)
        case _:
            return []
