"""Fleets under fault: whatever the dice do, the laws hold; a seed fixes every roll.

`FFRTMP_SIM_SEEDS=5000 pytest tests/sim` looks longer; a failure names its seed, and
`pytest tests/sim -k 'seed-37'` replays it.
"""

import functools
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.cluster import LeaderElected
from events.job import AttemptLost, Declined, Paused, Resumed, Retried, RetryScheduled
from tests.sim.fleet import Plan, Ran, simulate
from tests.sim.laws import LAWS

SEEDS = int(os.environ.get("FFRTMP_SIM_SEEDS", "100"))

SOMETIMES = (
    "conflict",
    "decline",
    "assignment.repeated",
    "loss",
    "retry",
    "pause",
    "resume",
    "retry on request",
    "ambiguous",
    "lost",
    "worker crash",
    "scheduler crash",
    "scheduler stop",
    "scheduler freeze",
    "leader.elected",
    "leader.resigned",
    "leader.deposed",
    "a fact from before its writer was deposed",
    "attempt.superseded",
    "attempt.cleared",
    "node.suspected",
    "node.lost",
    "node.recovered",
)
"""Without these the laws would not have been tried; the words are the dice's and the log's."""


@functools.cache
def run(seed: int) -> Ran:
    """Return what the run of `seed` left; fleets have one, two or three schedulers in turn."""
    plan = Plan(seed=seed, schedulers=1 + seed % 3)
    with tempfile.TemporaryDirectory() as folder:
        ran = simulate(plan, Path(folder))
    ran.met.update(reached(ran))
    return ran


def reached(ran: Ran) -> Counter[str]:
    """Count what the ledger shows of trouble."""
    names = {
        Declined.tag: "decline",
        AttemptLost.tag: "loss",
        RetryScheduled.tag: "retry",
        Paused.tag: "pause",
        Resumed.tag: "resume",
        Retried.tag: "retry on request",
    }
    counts = Counter(names[event.type] for event in ran.ledger if event.type in names)
    counts["a fact from before its writer was deposed"] = sum(
        event.source.startswith("scheduler/") and event.source != leader
        for event, leader in zip(ran.ledger, leaders(ran), strict=True)
    )
    return counts


def leaders(ran: Ran) -> Iterator[str]:
    """Yield who led when each event was stored, itself included."""
    leader = ""
    for event in ran.ledger:
        if isinstance(event.fact, LeaderElected):
            leader = event.fact.scheduler
        yield leader


@pytest.mark.parametrize("seed", range(SEEDS), ids=lambda seed: f"seed-{seed}")
def test_the_laws_hold(seed: int) -> None:
    ran = run(seed)
    violations = [f"{law.__name__}: {each}" for law in LAWS for each in law(ran)]
    assert not violations, f"seed {seed}:\n" + "\n".join(violations)


def test_every_kind_of_trouble_was_met() -> None:
    met = sum((run(seed).met for seed in range(SEEDS)), Counter[str]())
    assert {what: met[what] for what in SOMETIMES if not met[what]} == {}
