"""The options that say which jobs are meant; the same for lists and for what is asked of many."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, TypeVar

import click

from events.job import FailureClass
from events.spec import Priority, Queue
from events.state.job import JobStatus
from projections.read import JobFilter
from services.clock import SystemClock

F = TypeVar("F", bound=Callable[..., Any])
Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]

_AGE = re.compile(r"(\d{1,9})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_KINDS: Mapping[str, type[Queue | Priority]] = {"queue": Queue, "priority": Priority}
_NAMES = (
    *("states", "tenant", "labels", "node", "since", "until", "id_glob", "failure", "poison"),
    *_KINDS,
)


def instant(text: str, now: datetime) -> datetime:
    """Read `2h` as so long before `now`, or a date or an instant of RFC 3339, UTC unless it says.

    Raises ValueError for anything else.
    """
    age = _AGE.fullmatch(text)
    if age is not None:
        try:
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        except OverflowError as error:
            raise ValueError(str(error)) from error
    read = datetime.fromisoformat(text)
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)


def _instant(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        return instant(value, SystemClock().now())
    except ValueError:
        raise click.BadParameter(
            f"given: {value!r}; allowed: an age as 90s, 15m, 2h, 3d or 1w, a date as 2026-03-01, "
            "or an instant as 2026-03-01T12:00:00Z"
        ) from None


def _labels(_: click.Context, __: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for text in value:
        key, equals, wanted = text.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"given: {text!r}; allowed: KEY=VALUE")
        if labels.setdefault(key, wanted) != wanted:
            raise click.BadParameter(f"given: {key!r} twice; a label has one value, all must match")
    return labels


def filter_options(*, rank_prefix: str = "", states: bool = True) -> Callable[[F], F]:
    """Return a decorator that adds the options of a filter.

    `rank_prefix` is for a command whose own --queue and --priority mean something else; one that
    knows its `states` itself has no option for them.
    """
    options = (
        *((_state_option(),) if states else ()),
        *(_rank_option(name, kind, rank_prefix) for name, kind in _KINDS.items()),
        *_other_options(),
    )

    def add(command: F) -> F:
        for option in reversed(options):
            option(command)  # notes itself down on the function
        return command

    return add


def _state_option() -> Decorator:
    states = click.Choice([word.value for word in JobStatus])
    return click.option(
        *("--state", "--status", "states"),
        multiple=True,
        type=states,
        metavar="STATE",
        help=f"One of these: {', '.join(states.choices)}; repeat for several.",
    )


def _other_options() -> tuple[Decorator, ...]:
    failures = click.Choice([word.value for word in FailureClass])
    return (
        click.option("--tenant", help="Jobs of this tenant."),
        click.option(
            *("--label", "labels"),
            multiple=True,
            callback=_labels,
            metavar="KEY=VALUE",
            help="Jobs with this label; repeat for several, all must match.",
        ),
        click.option("--node", help="Jobs that this node has, or had last."),
        click.option(
            "--since",
            callback=_instant,
            metavar="AGE|TIME",
            help="Jobs submitted since then: 2h, 3d, 2026-03-01, 2026-03-01T12:00:00Z (UTC).",
        ),
        click.option(
            "--until", callback=_instant, metavar="AGE|TIME", help="Jobs submitted before."
        ),
        click.option("--id-glob", metavar="GLOB", help="Jobs whose id is like this: 'nightly-*'."),
        click.option("--failure", type=failures, help="Jobs whose last failure is of this class."),
        click.option(
            "--poison/--no-poison",
            default=None,
            help="Only jobs that failed because their nodes were lost again and again; or no such.",
        ),
    )


def _rank_option(name: str, kind: type[Queue | Priority], prefix: str) -> Decorator:
    return click.option(
        *(f"--{prefix}{name}", f"filter_{name}"),
        type=click.Choice([word.value for word in kind]),
        help=f"Jobs of this {name}.",
    )


def take_filter(options: dict[str, Any]) -> JobFilter | None:
    """Take the options of a filter out of what click hands over; None: none was given."""
    values = {name: options.pop(f"filter_{name}" if name in _KINDS else name) for name in _NAMES}
    return JobFilter(**values) if any(_is_given(value) for value in values.values()) else None


def _is_given(value: object) -> bool:
    return value is not None and value not in ((), {})


def described(which: JobFilter) -> str:
    """Return a filter in words, as `queue batch, label show=x`; empty: it restricts nothing."""
    words = [" or ".join(which.states)] if which.states else []
    words += [f"label {key}={value}" for key, value in which.labels.items()]
    for name in ("queue", "priority", "tenant", "node", "id_glob", "failure"):
        value: str | None = getattr(which, name)
        if value is not None:
            words.append(f"{name.replace('_', ' ')} {value}")
    for name, limit in (("since", which.since), ("until", which.until)):
        if limit is not None:
            words.append(f"submitted {name} {limit:%Y-%m-%d %H:%M:%S %Z}")
    if which.poison is not None:
        words.append("poison" if which.poison else "no poison")
    return ", ".join(words)
