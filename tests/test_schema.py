"""The published documents say what the structs say."""

import re
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest
from msgspec import json

from events import subjects
from events.codec import FACT_TYPES
from events.requests import CancelJob, InvalidRequest, SubmitJob, SubmitMany, decode_request
from events.schema import __main__ as command
from events.schema.asyncapi import VERSION
from events.schema.catalog import CHANNELS, OPERATIONS, channel_of
from events.schema.documents import event_schemas, request_schemas, subject_pattern
from events.schema.publish import documents
from tests.golden.write import Line

REPO = Path(__file__).parents[1]
OPS = REPO / "ops"
SCHEMAS = event_schemas() | request_schemas()
GOLDEN = [
    json.decode(line, type=Line)
    for line in (REPO / "tests/golden/log-0.1.jsonl").read_bytes().splitlines()
]
REQUESTS: tuple[tuple[str, type[SubmitJob | SubmitMany | CancelJob], bytes], ...] = (
    ("submit_job", SubmitJob, b"{}"),
    ("submit_job", SubmitJob, b'{"scenario":"1080p30-h264","labels":{"a":"b"}}'),
    ("submit_job", SubmitJob, b'{"scenario":"big"}'),
    ("submit_job", SubmitJob, b'{"prio":"high"}'),
    ("submit_job", SubmitJob, b'{"parameters":{"video":{"widht":640}}}'),
    ("submit_job", SubmitJob, b'{"parameters":{"video":{"width":17}}}'),
    ("submit_job", SubmitJob, b'{"input":{"width":640}}'),
    ("submit_job", SubmitJob, b'{"queue":"soon"}'),
    ("submit_many", SubmitMany, b'{"jobs":[{"queue":"live"}]}'),
    ("submit_many", SubmitMany, b'{"jobs":[]}'),
    ("cancel_job", CancelJob, b'{"job_id":"j","by":"ann"}'),
    ("cancel_job", CancelJob, b"{}"),
)


def validator(name: str) -> Any:  # noqa: ANN401 - jsonschema types its validators loosely
    return jsonschema.Draft202012Validator(
        cast("dict[str, Any]", SCHEMAS[name]),
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )


def references(document: object) -> list[str]:
    if isinstance(document, dict):
        items = cast("dict[str, object]", document)
        own = [str(items["$ref"])] if "$ref" in items else []
        return own + [ref for value in items.values() for ref in references(value)]
    if isinstance(document, list):
        return [ref for value in cast("list[object]", document) for ref in references(value)]
    return []


class TestPublished:
    def test_what_is_checked_in_is_what_the_structs_say(self) -> None:
        stale = [
            path
            for path, text in documents().items()
            if not (OPS / path).is_file() or (OPS / path).read_text(encoding="utf-8") != text
        ]
        assert stale == [], "run `python -m events.schema`"

    def test_nothing_else_lies_beside_it(self) -> None:
        there = {f"schema/{path.name}" for path in (OPS / "schema").iterdir()}
        assert there == documents().keys() - {"events.md"}

    def test_the_command_writes_all_and_removes_what_is_no_more(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "schema").mkdir()
        (tmp_path / "schema" / "job.sang.v1.json").write_text("{}")
        command.main(tmp_path)
        written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
        assert written == documents().keys()
        assert capsys.readouterr().out == f"{len(written)} documents written to {tmp_path}\n"

    def test_the_version_is_the_projects(self) -> None:
        project = (REPO / "pyproject.toml").read_text(encoding="utf-8")
        assert f'\nversion = "{VERSION}"\n' in project


class TestSchemas:
    @pytest.mark.parametrize("name", SCHEMAS)
    def test_every_schema_is_one(self, name: str) -> None:
        jsonschema.Draft202012Validator.check_schema(cast("dict[str, Any]", SCHEMAS[name]))
        assert set(references(SCHEMAS[name])) <= {
            f"#/$defs/{kind}" for kind in cast("dict[str, object]", SCHEMAS[name]["$defs"])
        }

    def test_every_fact_has_one(self) -> None:
        assert event_schemas().keys() == FACT_TYPES.keys()

    @pytest.mark.parametrize("line", GOLDEN, ids=lambda line: str(line.seq))
    def test_every_golden_event_is_valid(self, line: Line) -> None:
        event = json.decode(line.event)
        validator(event["type"]).validate(event)

    @pytest.mark.parametrize("line", GOLDEN, ids=lambda line: str(line.seq))
    def test_an_event_that_is_broken_is_not(self, line: Line) -> None:
        event = json.decode(line.event)
        valid = validator(event["type"]).is_valid
        assert not valid(event | {"type": "job.sang.v1"})
        assert not valid(event | {"subject": "ffrtmp.job.a b"})
        assert not valid({name: value for name, value in event.items() if name != "id"})
        assert not valid(event | {"data": []})

    def test_constraints_of_fields_are_in_the_schema(self) -> None:
        events = [json.decode(line.event) for line in GOLDEN]
        started = next(event for event in events if event["type"] == "job.started.v1")
        valid = validator("job.started.v1").is_valid
        assert valid(started)
        assert valid(started | {"data": started["data"] | {"mood": "unknown fields are ignored"}})
        assert not valid(started | {"data": started["data"] | {"attempt": 0}})
        assert not valid(started | {"data": {"attempt": 1}})

    @pytest.mark.parametrize(("name", "kind", "body"), REQUESTS)
    def test_a_request_is_valid_exactly_when_it_is_accepted(
        self, name: str, kind: type[SubmitJob | SubmitMany | CancelJob], body: bytes
    ) -> None:
        try:
            decode_request(kind, body)
            accepted = True
        except InvalidRequest:
            accepted = False
        assert validator(name).is_valid(json.decode(body)) is accepted

    def test_notes_of_fields_are_their_descriptions(self) -> None:
        definitions = cast("dict[str, Any]", SCHEMAS["submit_job"]["$defs"])
        crf = definitions["Video"]["properties"]["crf"]
        assert crf["description"].startswith("Constant rate factor, lower is better")
        job_id = definitions["SubmitJob"]["properties"]["job_id"]
        assert job_id["description"] == (
            "The job's id if the caller has one; the same id again is the same job."
        )


class TestAsyncApi:
    def test_every_reference_leads_somewhere(self) -> None:
        document = json.decode((OPS / "schema/asyncapi.json").read_bytes())
        for reference in references(document):
            if reference.startswith("./"):
                assert (OPS / "schema" / reference).is_file(), reference
                continue
            place = document
            for step in reference.removeprefix("#/").split("/"):
                place = place[step]
            assert place

    def test_every_subject_of_the_vocabulary_is_in_it(self) -> None:
        document = json.decode((OPS / "schema/asyncapi.json").read_bytes())
        addresses = {channel["address"] for channel in document["channels"].values()}
        constants = {
            value
            for name, value in vars(subjects).items()
            if name.startswith(("API_", "COMMAND_", "QUERY")) and not name.endswith("_PREFIX")
        }
        assert constants <= addresses

    def test_every_type_has_exactly_one_channel(self) -> None:
        filed = [fact.tag for channel in CHANNELS for fact in channel.facts]
        assert sorted(filed) == sorted(FACT_TYPES)

    @pytest.mark.parametrize("line", GOLDEN, ids=lambda line: str(line.seq))
    def test_golden_events_are_filed_where_it_says(self, line: Line) -> None:
        tag = json.decode(line.event)["type"]
        assert re.search(subject_pattern(channel_of(tag).address), line.subject)


class TestReference:
    def test_every_type_request_and_reply_has_its_section(self) -> None:
        page = (OPS / "events.md").read_text(encoding="utf-8")
        headings = re.findall(r"^### (.+)$", page, flags=re.MULTILINE)
        assert set(FACT_TYPES) <= set(headings)
        assert {"submit_job", "submit_many", "cancel_job", "reply", "replies"} <= set(headings)
        assert len(headings) == len(set(headings))
        assert len(OPERATIONS) >= 5

    def test_every_link_leads_to_a_heading(self) -> None:
        page = (OPS / "events.md").read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.+)$", page, flags=re.MULTILINE)
        anchors = {heading.lower().replace(".", "").replace(" ", "-") for heading in headings}
        assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors
