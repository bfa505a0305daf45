from pathlib import Path
from typing import Annotated, Any

import pytest
from msgspec import Meta, Struct

from services.cli import settings
from services.cli.settings import Sources
from services.config import ProjectorSettings, SchedulerSettings, WorkerSettings
from services.errors import ConfigurationError


class Sample(Struct, frozen=True, kw_only=True):
    slots: Annotated[int, Meta(ge=1, le=8)] = 2
    wait_s: Annotated[float, Meta(gt=0)] = 1.5
    home: Path
    labels: dict[str, str] = {}
    shiny: bool = False


HOME = Path("/srv/media")


def load(**sources: Any) -> Sample:  # noqa: ANN401 - passed on
    return settings.load(Sample, Sources(defaults={"home": HOME}, **sources))


def refusal(**sources: Any) -> str:  # noqa: ANN401 - passed on
    with pytest.raises(ConfigurationError) as caught:
        load(**sources)
    return str(caught.value)


def test_without_any_source_the_defaults_hold() -> None:
    assert load() == Sample(home=HOME)


def test_an_option_beats_the_environment_beats_the_file_beats_the_default() -> None:
    table, environment, options = {"slots": 3}, {"FFRTMP_SLOTS": "4"}, {"slots": "5"}
    assert load(table=table).slots == 3
    assert load(table=table, environment=environment).slots == 4
    assert load(table=table, environment=environment, options=options).slots == 5


def test_an_option_that_was_not_given_and_an_empty_variable_leave_the_word_to_others() -> None:
    sources: dict[str, Any] = {"options": {"slots": None}, "environment": {"FFRTMP_SLOTS": ""}}
    assert load(**sources, table={"slots": 7}).slots == 7


def test_text_becomes_the_type_of_its_field() -> None:
    environment = {
        "FFRTMP_SLOTS": "8",
        "FFRTMP_WAIT_S": "0.25",
        "FFRTMP_HOME": "/tmp/x",
        "FFRTMP_LABELS": "zone=eu, rack=7,",
        "FFRTMP_SHINY": "true",
    }
    assert load(environment=environment) == Sample(
        slots=8, wait_s=0.25, home=Path("/tmp/x"), labels={"zone": "eu", "rack": "7"}, shiny=True
    )


def test_a_refusal_names_the_setting_its_source_what_was_given_and_what_is_allowed() -> None:
    assert refusal(environment={"FFRTMP_SLOTS": "9"}) == (
        "slots: Expected `int` <= 8; given: '9' by FFRTMP_SLOTS; "
        "allowed: a whole number from 1 to 8"
    )
    assert refusal(options={"wait_s": "soon"}) == (
        "wait_s: Expected `float`, got `str`; given: 'soon' by --wait-s; allowed: a number above 0"
    )
    assert refusal(table={"shiny": 3}, table_name="worker") == (
        "shiny: Expected `bool`, got `int`; given: 3 by [worker] shiny; allowed: true or false"
    )
    assert refusal(environment={"FFRTMP_LABELS": "zone"}) == (
        "'zone' is no key=value; given: 'zone'"
    )


def test_a_file_is_not_read_as_loosely_as_text() -> None:
    assert "given: '3' by [worker] slots" not in refusal(table={"slots": [3]}, table_name="worker")
    assert load(table={"wait_s": 3}).wait_s == 3.0


def test_an_unknown_setting_in_the_file_is_refused_with_those_that_exist() -> None:
    assert refusal(table={"slot": 3}, table_name="worker") == (
        "[worker] slot: unknown setting; allowed: home, labels, shiny, slots, wait_s"
    )


def test_a_required_setting_tells_how_to_give_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings.load(Sample, Sources())
    assert str(caught.value) == "home: not given; give --home or FFRTMP_HOME"


def test_a_table_of_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "ffrtmp.toml"
    file.write_text("[worker]\nslots = 3\n[up]\nworkers = 2\n")
    assert settings.read_table(file, "worker") == {"slots": 3}
    assert settings.read_table(file, "scheduler") == {}


def test_a_file_that_is_no_toml_or_no_file_or_no_table_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "ffrtmp.toml"
    with pytest.raises(ConfigurationError, match="No such file or directory; give --config"):
        settings.read_table(file, "worker")
    file.write_text("worker = = 3")
    with pytest.raises(ConfigurationError, match=r"ffrtmp\.toml: no TOML: "):
        settings.read_table(file, "worker")
    file.write_text("worker = 3")
    with pytest.raises(ConfigurationError, match=r"'worker' is no table; write \[worker\]"):
        settings.read_table(file, "worker")
    file.write_text("[wrker]\nslots = 3\n[worker]\nslots = 2")
    with pytest.raises(ConfigurationError) as caught:
        settings.read_table(file, "worker")
    assert str(caught.value) == (
        f"{file}: 'wrker' is read by nobody; allowed: [up], [worker], [scheduler], [projector], "
        "[timeouts]"
    )


def test_time_outs_are_given_once_for_all_and_a_service_may_differ() -> None:
    shared = {"node_dead_s": 60.0, "stall_s": 90.0}
    sources = Sources(table={"stall_s": 5.0}, table_name="scheduler", common=shared)
    found = settings.load(SchedulerSettings, sources)
    assert (found.node_dead_s, found.stall_s) == (60.0, 5.0)
    with pytest.raises(ConfigurationError, match=r"\[timeouts\] slots: unknown setting; allowed: "):
        settings.load(SchedulerSettings, Sources(common={"slots": 2}))
    with pytest.raises(ConfigurationError, match=r"given: -1 by \[timeouts\] stall_s; allowed: "):
        settings.load(SchedulerSettings, Sources(common={"stall_s": -1}))


@pytest.mark.parametrize("kind", [WorkerSettings, SchedulerSettings, ProjectorSettings])
def test_every_setting_of_every_service_says_what_it_allows(kind: type[Struct]) -> None:
    from msgspec.structs import fields  # noqa: PLC0415 - only this test needs it

    assert [f.name for f in fields(kind) if settings.allowed(f.type) == "a valid value"] == []


def test_a_workers_settings_load_from_text_alone() -> None:
    environment = {
        "FFRTMP_NODE_ID": "n1",
        "FFRTMP_WORK_DIR": "/w",
        "FFRTMP_MEDIA_ROOT": "/m",
        "FFRTMP_OUTPUT_ROOT": "~",
    }
    loaded = settings.load(WorkerSettings, Sources(environment=environment))
    assert (loaded.node_id, loaded.output_root) == ("n1", Path.home())


def test_a_node_id_that_is_no_subject_token_is_refused_in_words() -> None:
    environment = {"FFRTMP_NODE_ID": "a.b"}
    with pytest.raises(ConfigurationError) as caught:
        settings.load(WorkerSettings, Sources(environment=environment))
    assert str(caught.value) == (
        "node_id: not as it has to be; "
        "given: 'a.b' by FFRTMP_NODE_ID; allowed: 1 to 64 letters, digits, `_` or `-`"
    )
