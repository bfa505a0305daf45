"""What must be true of whatever a fleet has left behind, as violations in words.

The laws count for themselves; only `every_fact_is_lawful` and `the_world_forgets` ask the system's
own fold, because it is the thing they speak of.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import TypeAlias, cast

from msgspec.structs import replace

from events import job as facts
from events import subjects
from events.cluster import LeaderElected, LeaderResigned, Policy
from events.codec import Recorded
from events.ids import JobId, NodeId
from events.node import Available, Registered
from events.state.job import INITIAL, JobState, evolve
from services.scheduler.state.world import World
from tests.sim.fleet import HARDWARE, Ran, Span

ENDS = (facts.Completed, facts.Failed, facts.Canceled, facts.Rejected)
GIVES_BACK = (facts.Declined, facts.AttemptFailed, facts.AttemptLost)

ROOM = {"cpu_threads": HARDWARE.cpu_threads, "memory_bytes": HARDWARE.memory_bytes}
"""What each machine has beside its slots."""
Law: TypeAlias = Callable[[Ran], Iterator[str]]


def every_job_ends_once(ran: Ran) -> Iterator[str]:
    """A job has one end, and nothing but the promotion of its files, or a retry, comes after."""
    for job, story in stories(ran).items():
        ends = [at for at, event in enumerate(story) if isinstance(event.fact, ENDS)]
        retries = sum(isinstance(event.fact, facts.Retried) for event in story)
        if len(ends) != 1 + retries:
            yield f"{job} has {len(ends)} ends: {told(story)}"
        for end in ends:
            after = [event.type for event in story[end + 1 :]]
            if after not in ([], ["job.promoted.v1"]) and after[0] != "job.retried.v1":
                yield f"{job} has an end and then {after}: {told(story)}"


def a_repeated_submission_is_the_same_job(ran: Ran) -> Iterator[str]:
    for job, story in stories(ran).items():
        submitted = [isinstance(event.fact, facts.Submitted) for event in story]
        if submitted[:1] != [True] or sum(submitted) != 1:
            yield f"{job} was submitted {sum(submitted)} times"
    strangers = stories(ran).keys() - ran.jobs.keys()
    if strangers:
        yield f"nobody submitted {strangers}"
    for job, replies in ran.replies.items():
        if any(reply.job_id != job or reply.error for reply in replies):
            yield f"{job} was answered {replies}"
        if sum(not reply.duplicate for reply in replies) > 1:
            yield f"{job} was new more than once: {replies}"


def attempts_follow_each_other(ran: Ran) -> Iterator[str]:
    """Attempts count from 1, one at a time, each given back before the next is assigned."""
    for job, story in stories(ran).items():
        attempt, open_, started = 0, False, False
        for event in story:
            match event.fact:
                case facts.Assigned(attempt=number):
                    fits = number == attempt + 1 and not open_
                    attempt, open_, started = number, True, False
                case facts.Started(attempt=number):
                    fits = number == attempt and open_ and not started
                    started = True
                case facts.Declined(attempt=number):
                    fits = number == attempt and open_ and not started
                    open_ = False
                case facts.AttemptFailed(attempt=number) | facts.AttemptLost(attempt=number):
                    fits = number == attempt and open_
                    open_ = False
                case facts.Completed(attempt=number):
                    fits = number == attempt and started and open_
                case facts.Canceled() | facts.Failed():
                    fits, open_ = True, False
                case _:
                    fits = True
            if not fits:
                yield f"{job}: {event.type} at {event.seq} does not fit: {told(story)}"


def an_attempt_runs_once_and_alone(ran: Ran) -> Iterator[str]:
    """Two attempts of a job run at the same time only if the earlier one was given up before."""
    runs = Counter((span.job, span.attempt) for span in ran.spans)
    yield from (f"{key} ran {count} times" for key, count in runs.items() if count > 1)
    seqs = {
        (subjects.job_of(event.subject), event.fact.attempt, type(event.fact)): event.seq
        for event in ran.ledger
        if isinstance(event.fact, facts.Started | facts.AttemptLost)
    }
    for span in ran.spans:
        if (span.job, span.attempt, facts.Started) not in seqs:
            yield f"{span} ran without being started"
    for one, other in combinations(ran.spans, 2):
        if one.job != other.job or not overlap(one, other):
            continue
        early, late = sorted((one, other), key=lambda span: span.attempt)
        lost = seqs.get((early.job, early.attempt, facts.AttemptLost))
        if lost is None or lost > seqs[late.job, late.attempt, facts.Started]:
            yield f"{early} and {late} ran at the same time"


def no_node_runs_more_than_its_slots(ran: Ran) -> Iterator[str]:
    for span in ran.spans:
        beside = [
            other
            for other in ran.spans
            if other.node == span.node and other.begun_s <= span.begun_s < other.ended_s
        ]
        if len(beside) > ran.plan.slots:
            yield f"{len(beside)} attempts ran on {span.node} at {span.begun_s}"


def one_scheduler_never_oversells(ran: Ran) -> Iterator[str]:
    """One scheduler gives a node no more than it has; of two, the node declines one's."""
    if ran.plan.schedulers > 1:
        return
    holder: dict[JobId, NodeId] = {}
    for event in ran.ledger:
        match event.fact:
            case facts.Assigned(node=node):
                holder[subjects.job_of(event.subject)] = node
                here = [job for job, each in holder.items() if each == node]
                if len(here) > ran.plan.slots:
                    yield f"{node} holds {here} at {event.seq}"
                for name, most in ROOM.items():
                    asked = [limits_of(ran, job).get(name, 0) for job in here]
                    if sum(asked) > most:
                        yield f"{node} holds {here} at {event.seq}, which ask for {asked} {name}"
            case fact if isinstance(fact, ENDS + GIVES_BACK):
                holder.pop(subjects.job_of(event.subject), None)
            case _:
                pass


def a_job_asked_to_end_is_never_assigned_again(ran: Ran) -> Iterator[str]:
    for job, story in stories(ran).items():
        asked = False
        for event in story:
            match event.fact:
                case facts.CancelRequested():
                    asked = True
                case facts.Retried():
                    asked = False
                case facts.Assigned() if asked:
                    yield f"{job} was assigned after somebody asked to end it: {told(story)}"
                case _:
                    pass


def a_node_that_declined_is_left_alone(ran: Ran) -> Iterator[str]:
    """Until it reports free room it is given no more than was on its way when it declined."""
    on_their_way = ran.plan.schedulers * ran.plan.slots
    given: dict[NodeId, int] = {}
    for event in ran.ledger:
        match event.fact:
            case facts.Declined(node=node):
                given.setdefault(node, 0)
            case facts.Assigned(node=node) if node in given:
                given[node] += 1
                if given[node] > on_their_way:
                    yield f"{node} was given another job at {event.seq} though it had declined"
            case Registered() | Available() if getattr(event.fact, "free", 1):
                given.pop(subjects.node_of(event.subject), None)
            case _:
                pass


def nothing_runs_before_what_it_depends_on(ran: Ran) -> Iterator[str]:
    completed = {
        subjects.job_of(event.subject): event.seq
        for event in ran.ledger
        if isinstance(event.fact, facts.Completed)
    }
    for job, story in stories(ran).items():
        asked = ran.jobs[job]
        needed = cast(list[JobId], asked.get("depends_on", []))
        first = min(
            (event.seq for event in story if isinstance(event.fact, facts.Assigned)), default=None
        )
        if first is not None and "requires" in asked:
            yield f"{job} was assigned though no node has what it requires"
        if first is not None and any(completed.get(each, first) >= first for each in needed):
            yield f"{job} was assigned before all of {needed} were completed"


def winners_have_their_files_and_losers_none(ran: Ran) -> Iterator[str]:
    winners = {
        (event.fact.node, subjects.job_of(event.subject)): event.fact.attempt
        for event in ran.ledger
        if isinstance(event.fact, facts.Completed) and event.fact.files
    }
    finals = {
        (name, job): attempt
        for name, disk in ran.disks.items()
        for job, attempt in disk.finals.items()
    }
    if winners != finals:
        yield f"completed {winners}, but on disk are {finals}"
    for name, disk in ran.disks.items():
        if disk.drafts:
            yield f"{name} still has files of {sorted(disk.drafts)}"
    for job, story in stories(ran).items():
        last = story[-1].fact
        if isinstance(last, facts.Completed) and last.files:
            yield f"{job} was never promoted: {told(story)}"


def every_fact_is_lawful(ran: Ran) -> Iterator[str]:
    """The log never holds a fact that its job's fold ignores."""
    for job, story in stories(ran).items():
        state: JobState = INITIAL
        for event in story:
            before, state = state, evolve(state, event)
            if replace(before, version=event.seq) == state:
                yield f"{job}: {event.type} at {event.seq} changes nothing: {told(story)}"


def the_world_forgets(ran: Ran) -> Iterator[str]:
    """A scheduler keeps nothing of jobs that have ended."""
    world = World(Policy())
    for event in ran.ledger:
        world.apply(event)
    held = sum(len(jobs) for jobs in world.held.values())
    left = {
        "jobs": len(world.jobs),
        "held": held,
        "halted": len(world.halted),
        "ready": len(world.ready),
        "dependents": len(world.dependents),
        "unblocked": len(world.unblocked),
    }
    yield from (f"the world still has {count} {what}" for what, count in left.items() if count)


def pauses_and_resumes_alternate(ran: Ran) -> Iterator[str]:
    """What runs is paused, and what is paused is resumed."""
    for job, story in stories(ran).items():
        paused = False
        for event in story:
            match event.fact:
                case facts.Paused() | facts.Resumed():
                    now = isinstance(event.fact, facts.Paused)
                    if now is paused:
                        yield f"{job}: {event.type} at {event.seq} is out of turn: {told(story)}"
                    paused = now
                case facts.Assigned():
                    paused = False
                case _:
                    pass


def terms_count_up(ran: Ran) -> Iterator[str]:
    """Each election is the next, and only who was elected last resigns."""
    term, leader = 0, ""
    for event in ran.ledger:
        match event.fact:
            case LeaderElected(scheduler=scheduler, term=number):
                if number != term + 1:
                    yield f"term {number} at {event.seq} follows {term}"
                term, leader = number, scheduler
            case LeaderResigned(scheduler=scheduler, term=number):
                if (number, scheduler) != (term, leader):
                    yield f"{scheduler} resigned from {number} at {event.seq}, in term {term}"
            case _:
                pass


def one_scheduler_decides_at_a_time(ran: Ran) -> Iterator[str]:
    """Whatever a scheduler has written, it wrote after its election and before the next one.

    A fact that was on its way when its writer was deposed comes later into the log than the next
    election; its expectation sees to it that it fits.
    """
    terms = [event for event in ran.ledger if isinstance(event.fact, LeaderElected)]
    for event in ran.ledger:
        if not event.source.startswith("scheduler/") or isinstance(event.fact, LeaderElected):
            continue
        reigning = [
            term.source
            for at, term in enumerate(terms)
            if term.time <= event.time and all(event.time <= each.time for each in terms[at + 1 :])
        ]
        if event.source not in reigning:
            yield f"{event.type} at {event.seq} is {event.source}'s while {reigning} led"


def limits_of(ran: Ran, job: JobId) -> dict[str, int]:
    """Return what a job asked to be given at most, and so to have."""
    return cast(dict[str, int], ran.jobs[job].get("limits", {}))


LAWS: tuple[Law, ...] = (
    terms_count_up,
    one_scheduler_decides_at_a_time,
    every_job_ends_once,
    a_repeated_submission_is_the_same_job,
    attempts_follow_each_other,
    an_attempt_runs_once_and_alone,
    no_node_runs_more_than_its_slots,
    one_scheduler_never_oversells,
    a_job_asked_to_end_is_never_assigned_again,
    pauses_and_resumes_alternate,
    a_node_that_declined_is_left_alone,
    nothing_runs_before_what_it_depends_on,
    winners_have_their_files_and_losers_none,
    every_fact_is_lawful,
    the_world_forgets,
)


def stories(ran: Ran) -> dict[JobId, list[Recorded]]:
    """Return the facts of each job, in order; every job that was asked for has an entry."""
    found: dict[JobId, list[Recorded]] = {job: [] for job in ran.jobs}
    for event in ran.ledger:
        if subjects.is_job(event.subject):
            found.setdefault(subjects.job_of(event.subject), []).append(event)
    return found


def told(story: list[Recorded]) -> str:
    """Return a job's facts in a line."""
    return " ".join(
        f"{event.seq}:{event.type.split('.')[1]}{getattr(event.fact, 'attempt', '')}"
        f"@{getattr(event.fact, 'node', event.source)}"
        for event in story
    )


def overlap(one: Span, other: Span) -> bool:
    """Tell whether two spans share an instant."""
    return one.begun_s < other.ended_s and other.begun_s < one.ended_s
