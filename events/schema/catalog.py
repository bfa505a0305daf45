"""Which messages travel where: the one list that all published documents are made from."""

from typing import NamedTuple, get_args

from msgspec import Struct

from events import subjects
from events.cluster import ClusterFact
from events.codec import FACT_TYPES, Fact
from events.ids import TOKEN_PATTERN
from events.job import JobFact
from events.node import NodeFact
from events.requests import (
    CancelJob,
    CordonNode,
    DrainNode,
    ExplainJob,
    Explanation,
    PauseJob,
    QueryRequest,
    QueryResult,
    RemoveNode,
    Replies,
    Reply,
    ReprioritizeJob,
    ResumeJob,
    RetryJob,
    SetPolicy,
    SubmitJob,
    SubmitMany,
    UncordonNode,
)
from events.telemetry import Heartbeat, LogChunk, Progress


class Channel(NamedTuple):
    """One kind of subject, and the facts that are filed there."""

    name: str
    address: str
    """The subject, its variable tokens in braces."""
    stream: str
    """The JetStream stream that keeps it."""
    summary: str
    facts: tuple[type[Fact], ...]


class Operation(NamedTuple):
    """One thing that can be asked for."""

    name: str
    address: str
    stream: str
    """The stream that keeps the request until it is decided; empty: it is answered at once."""
    summary: str
    request: type[Struct]
    reply: type[Struct] | None
    """None: the answer is a fact in the ledger."""


TOKENS = {
    "job_id": TOKEN_PATTERN,
    "node_id": TOKEN_PATTERN,
    "attempt": "^[1-9][0-9]*$",
    "topic": "^(?:leader|policy)$",
}
"""What may stand for each variable token of a subject."""

CHANNELS = (
    Channel(
        "job",
        subjects.JOB_PREFIX + "{job_id}",
        "FFRTMP_LEDGER",
        "The life of one job: every decision and transition, for ever.",
        get_args(JobFact),
    ),
    Channel(
        "node",
        subjects.NODE_PREFIX + "{node_id}",
        "FFRTMP_LEDGER",
        "The life of one node, and what it is told to do, for ever.",
        get_args(NodeFact),
    ),
    Channel(
        "cluster",
        subjects.CLUSTER_PREFIX + "{topic}",
        "FFRTMP_LEDGER",
        "What holds for the whole fleet: how it ranks jobs, and who leads, for ever.",
        get_args(ClusterFact),
    ),
    Channel(
        "node_telemetry",
        "ffrtmp.telemetry.node.{node_id}",
        "FFRTMP_TELEMETRY",
        "Heartbeats of one node; they expire.",
        (Heartbeat,),
    ),
    Channel(
        "job_telemetry",
        "ffrtmp.telemetry.job.{job_id}",
        "FFRTMP_TELEMETRY",
        "Progress of one job; it expires.",
        (Progress,),
    ),
    Channel(
        "logs",
        "ffrtmp.logs.{job_id}.{attempt}",
        "FFRTMP_LOGS",
        "What one attempt's process printed; it expires.",
        (LogChunk,),
    ),
)

_CONTROLS = (
    ("pause", subjects.API_PAUSE, subjects.COMMAND_PAUSE, "Pause a running job", PauseJob),
    ("resume", subjects.API_RESUME, subjects.COMMAND_RESUME, "Resume a paused job", ResumeJob),
    ("retry", subjects.API_RETRY, subjects.COMMAND_RETRY, "Run a failed job again", RetryJob),
    (
        "reprioritize",
        subjects.API_REPRIORITIZE,
        subjects.COMMAND_REPRIORITIZE,
        "Rank a job anew",
        ReprioritizeJob,
    ),
    (
        "cordon",
        subjects.API_CORDON,
        subjects.COMMAND_CORDON,
        "Give a node nothing new",
        CordonNode,
    ),
    (
        "uncordon",
        subjects.API_UNCORDON,
        subjects.COMMAND_UNCORDON,
        "Let a node have work again",
        UncordonNode,
    ),
    (
        "drain",
        subjects.API_DRAIN,
        subjects.COMMAND_DRAIN,
        "Let a node finish its work and end",
        DrainNode,
    ),
    ("remove", subjects.API_REMOVE, subjects.COMMAND_REMOVE, "Forget a dead node", RemoveNode),
    (
        "set_policy",
        subjects.API_POLICY,
        subjects.COMMAND_POLICY,
        "Rank jobs by another policy",
        SetPolicy,
    ),
)

OPERATIONS = (
    Operation(
        "submit_later",
        subjects.COMMAND_SUBMIT,
        "FFRTMP_COMMANDS",
        "Submit a job durably; a message header Nats-Msg-Id makes a repetition the same job.",
        SubmitJob,
        None,
    ),
    Operation(
        "cancel_later",
        subjects.COMMAND_CANCEL,
        "FFRTMP_COMMANDS",
        "Cancel a job durably.",
        CancelJob,
        None,
    ),
    Operation(
        "submit", subjects.API_SUBMIT, "", "Submit a job, answered at once.", SubmitJob, Reply
    ),
    Operation(
        "submit_many",
        subjects.API_SUBMIT_MANY,
        "",
        "Submit up to 1,000 jobs; each is answered on its own, in the same order.",
        SubmitMany,
        Replies,
    ),
    Operation(
        "cancel", subjects.API_CANCEL, "", "Cancel a job, answered at once.", CancelJob, Reply
    ),
    *(
        Operation(name, api, "", f"{words}, answered at once.", request, Reply)
        for name, api, _, words, request in _CONTROLS
    ),
    *(
        Operation(f"{name}_later", command, "FFRTMP_COMMANDS", f"{words} durably.", request, None)
        for name, _, command, words, request in _CONTROLS
    ),
    Operation(
        "explain",
        subjects.API_EXPLAIN,
        "",
        "Say why a job is where it is and what must happen next, answered at once.",
        ExplainJob,
        Explanation,
    ),
    Operation(
        "query",
        subjects.QUERY,
        "",
        "Ask the read model in SQL, answered at once; read-only, with limits.",
        QueryRequest,
        QueryResult,
    ),
)


def channel_of(tag: str) -> Channel:
    """Return where facts of this type are filed."""
    fact = FACT_TYPES[tag]
    return next(channel for channel in CHANNELS if fact in channel.facts)
