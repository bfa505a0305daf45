"""Which request is carried out by what: every kind in one table, at once and durably alike."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeAlias

from events import subjects
from events.requests import Reply
from events.subjects import Subject
from services.bus.port import Request
from services.clock import Pen
from services.log.port import EventLog
from services.scheduler.control import jobs, nodes
from services.scheduler.control.policy import PolicyControl

Answer: TypeAlias = Callable[[Request], Awaitable[Reply]]
"""Carries one request out. Raises InvalidRequest when it cannot be read, Conflict when others were
always first."""
Answers: TypeAlias = Mapping[Subject, Answer]


class Catalog:
    """What there is to ask about jobs and nodes that are there, and about the fleet."""

    def __init__(self, ledger: EventLog, pen: Pen, known: nodes.Known) -> None:
        of_jobs = jobs.JobControl(ledger, pen).carry_out
        of_nodes = nodes.NodeControl(ledger, pen, known).carry_out
        policy = PolicyControl(ledger, pen).carry_out
        self.at_once: Answers = {
            **{subject: partial(of_jobs, read=read) for subject, read in jobs.AT_ONCE.items()},
            **{subject: partial(of_nodes, read=read) for subject, read in nodes.AT_ONCE.items()},
            subjects.API_POLICY: policy,
        }
        """By the subject that is answered at once."""
        self.durably: Mapping[str, Answer] = {
            **{subject: partial(of_jobs, read=read) for subject, read in jobs.DURABLY.items()},
            **{subject: partial(of_nodes, read=read) for subject, read in nodes.DURABLY.items()},
            subjects.COMMAND_POLICY: policy,
        }
        """By the subject that keeps a command until it has been decided."""
