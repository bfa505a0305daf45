from datetime import UTC, datetime, timedelta

import pytest

from events.state.job import JobStatus
from events.state.node import Circuit, NodeStatus
from tui import present

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize("status", JobStatus)
def test_every_job_status_has_its_own_glyph_and_its_own_word(status: JobStatus) -> None:
    others = [present.job_look(other) for other in JobStatus if other is not status]
    look = present.job_look(status)
    assert look.word == status.value
    assert look.glyph not in {other.glyph for other in others}


@pytest.mark.parametrize("status", NodeStatus)
def test_every_node_status_has_its_own_glyph_and_its_own_word(status: NodeStatus) -> None:
    others = [present.node_look(other) for other in NodeStatus if other is not status]
    look = present.node_look(status)
    assert look.word == status.value
    assert look.glyph not in {other.glyph for other in others}


def test_every_state_of_a_circuit_has_its_own_glyph_and_its_own_word() -> None:
    assert [str(present.circuit_look(circuit)) for circuit in Circuit] == [
        "● closed",
        "✖ open",
        "◐ half open",
    ]


def test_every_glyph_is_one_terminal_cell_wide() -> None:
    from rich.cells import cell_len  # noqa: PLC0415 - only this test needs it

    looks = [present.job_look(status) for status in JobStatus]
    looks += [present.node_look(status) for status in NodeStatus]
    looks += [present.circuit_look(circuit) for circuit in Circuit]
    assert [cell_len(look.glyph) for look in [*looks, present.RETRYING]] == [1] * 20


def test_success_and_failure_differ_in_more_than_red_and_green() -> None:
    good, bad = present.job_look("completed"), present.job_look("failed")
    assert (str(good), str(bad)) == ("✔ completed", "✖ failed")
    blues = [int(look.color[5:7], 16) for look in (good, bad)]
    assert abs(blues[0] - blues[1]) > 100


def test_a_job_in_back_off_is_retrying() -> None:
    assert str(present.job_look("pending", retrying=True)) == "↻ retrying"
    assert str(present.job_look("queued", retrying=True)) == "◌ queued"


def test_a_state_of_a_later_version_is_shown_by_its_word() -> None:
    assert str(present.job_look("hibernating")) == "? hibernating"
    assert str(present.node_look("hibernating")) == "? hibernating"
    assert str(present.circuit_look("fused")) == "? fused"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"),
        (-1, "-"),
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (8040, "2 h 14 min"),
        (86_400 * 3 + 4 * 3600 + 59, "3 d 4 h"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: float | None, words: str) -> None:
    assert present.duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "now"), (0.9, "now"), (3.9, "3.0 s ago"), (125, "2 min 05 s ago")],
)
def test_an_age_is_told_from_now(seconds: float, words: str) -> None:
    assert present.age(NOW - timedelta(seconds=seconds), NOW) == words


def test_an_unknown_age_is_a_dash() -> None:
    assert present.age(None, NOW) == "-"


@pytest.mark.parametrize(
    ("count_bytes", "words"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (999_949, "1.0 MB"),
        (123_456_789, "123 MB"),
        (5e15, "5000 TB"),
    ],
)
def test_a_size_has_decimal_units(count_bytes: float | None, words: str) -> None:
    assert present.size(count_bytes) == words


@pytest.mark.parametrize(
    ("rate", "words"),
    [(None, "-"), (800, "800 bit/s"), (2_500_000, "2.5 Mbit/s"), (128_000, "128 kbit/s")],
)
def test_a_bit_rate_has_decimal_units(rate: float | None, words: str) -> None:
    assert present.bit_rate(rate) == words


@pytest.mark.parametrize(
    ("factor", "words"),
    [(None, "-"), (0.0, "-"), (0.985, "0.985x"), (12.345, "12.3x"), (456.7, "457x")],
)
def test_a_speed_has_three_digits(factor: float | None, words: str) -> None:
    assert present.speed(factor) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "-"), (-3, "0 %"), (99.99, "99 %"), (100.0, "100 %"), (250, "100 %")],
)
def test_only_a_finished_thing_is_a_hundred_percent(value: float | None, words: str) -> None:
    assert present.percent(value) == words


@pytest.mark.parametrize(
    ("value", "picture"),
    [(None, "────"), (0, "────"), (12.5, "╸───"), (50, "━━──"), (100, "━━━━"), (400, "━━━━")],
)
def test_a_bar_always_has_its_width(value: float | None, picture: str) -> None:
    assert present.bar(value, 4) == picture


def test_thousands_stand_apart() -> None:
    assert (present.count(1234567), present.count(None)) == ("1,234,567", "-")


def test_a_clock_time_is_cut_to_milliseconds_never_rounded_up() -> None:
    assert present.clock_time(NOW.replace(microsecond=999_999)) == "12:00:00.999"
    assert present.clock_time(None) == "-"


def test_a_shortened_text_is_one_line_and_marks_its_cut() -> None:
    assert present.shortened("one\n two", 9) == "one two"
    assert present.shortened("abcdefgh", 5) == "abcd…"


def test_what_others_wrote_has_no_control_characters() -> None:
    assert present.printable("ü\t✔ \x1b[31m\r\n\x9b") == "ü\t✔ \ufffd[31m\ufffd\ufffd\ufffd"
