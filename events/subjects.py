"""Where a fact is filed. One subject is one entity's facts; filters select many.

`Subject` and `Filter` are made only by the functions and constants of this module, so a token with
a dot, a space or a wildcard in it can never reach the wire.
"""

import re
from typing import NewType

from events.ids import TOKEN_PATTERN, JobId, NodeId

Subject = NewType("Subject", str)
Filter = NewType("Filter", str)

JOB_PREFIX = "ffrtmp.job."
NODE_PREFIX = "ffrtmp.node."
CLUSTER_PREFIX = "ffrtmp.cluster."
NODE_TELEMETRY_PREFIX = "ffrtmp.telemetry.node."
COMMAND_PREFIX = "ffrtmp.cmd."
API_PREFIX = "ffrtmp.api."

LEDGER = (
    Filter("ffrtmp.job.*"),
    Filter("ffrtmp.node.*"),
    Filter("ffrtmp.access.*"),
    Filter("ffrtmp.cluster.*"),
)
TELEMETRY = (Filter("ffrtmp.telemetry.>"),)
TELEMETRY_NODES = Filter("ffrtmp.telemetry.node.*")
TELEMETRY_JOBS = Filter("ffrtmp.telemetry.job.*")
LOGS = (Filter("ffrtmp.logs.>"),)
COMMANDS = (Filter("ffrtmp.cmd.>"),)
LEASES = (Filter("ffrtmp.lease.>"),)
ALL_JOBS = LEDGER[0]
ALL_NODES = LEDGER[1]

POLICY = Subject("ffrtmp.cluster.policy")
LEADER = Subject("ffrtmp.cluster.leader")
LEASE_LEADER = Subject("ffrtmp.lease.leader")

COMMAND_SUBMIT = Subject("ffrtmp.cmd.jobs.submit")
COMMAND_CANCEL = Subject("ffrtmp.cmd.jobs.cancel")
COMMAND_PAUSE = Subject("ffrtmp.cmd.jobs.pause")
COMMAND_RESUME = Subject("ffrtmp.cmd.jobs.resume")
COMMAND_RETRY = Subject("ffrtmp.cmd.jobs.retry")
COMMAND_REPRIORITIZE = Subject("ffrtmp.cmd.jobs.reprioritize")
API_SUBMIT = Subject("ffrtmp.api.jobs.submit")
API_SUBMIT_MANY = Subject("ffrtmp.api.jobs.submit_many")
API_CANCEL = Subject("ffrtmp.api.jobs.cancel")
API_PAUSE = Subject("ffrtmp.api.jobs.pause")
API_RESUME = Subject("ffrtmp.api.jobs.resume")
API_RETRY = Subject("ffrtmp.api.jobs.retry")
API_REPRIORITIZE = Subject("ffrtmp.api.jobs.reprioritize")
COMMAND_CORDON = Subject("ffrtmp.cmd.nodes.cordon")
COMMAND_UNCORDON = Subject("ffrtmp.cmd.nodes.uncordon")
COMMAND_DRAIN = Subject("ffrtmp.cmd.nodes.drain")
COMMAND_REMOVE = Subject("ffrtmp.cmd.nodes.remove")
COMMAND_POLICY = Subject("ffrtmp.cmd.policy.set")
API_CORDON = Subject("ffrtmp.api.nodes.cordon")
API_UNCORDON = Subject("ffrtmp.api.nodes.uncordon")
API_DRAIN = Subject("ffrtmp.api.nodes.drain")
API_REMOVE = Subject("ffrtmp.api.nodes.remove")
API_POLICY = Subject("ffrtmp.api.policy.set")
API_EXPLAIN = Subject("ffrtmp.api.jobs.explain")
QUERY = Subject("ffrtmp.query")

SERVER_EVENTS = Filter("ffrtmp.sys.*")
CONNECTED = Subject("ffrtmp.sys.connected")
DISCONNECTED = Subject("ffrtmp.sys.disconnected")
"""Where the server tells of clients that came and went, if it is set up to: plain messages."""

_token = re.compile(TOKEN_PATTERN).match


def job(job_id: JobId) -> Subject:
    """Return where the facts of one job are."""
    return Subject(JOB_PREFIX + _checked(job_id))


def node(node_id: NodeId) -> Subject:
    """Return where the facts of one node are; a worker follows exactly its own."""
    return Subject(NODE_PREFIX + _checked(node_id))


def telemetry_of_job(job_id: JobId) -> Subject:
    """Return where the progress of one job is reported."""
    return Subject(f"ffrtmp.telemetry.job.{_checked(job_id)}")


def telemetry_of_node(node_id: NodeId) -> Subject:
    """Return where the heartbeats of one node are."""
    return Subject(NODE_TELEMETRY_PREFIX + _checked(node_id))


def node_of_telemetry(subject: str) -> NodeId:
    """Return the node whose heartbeats are on `subject`; the inverse of `telemetry_of_node`."""
    assert subject.startswith(NODE_TELEMETRY_PREFIX), subject
    return NodeId(subject[len(NODE_TELEMETRY_PREFIX) :])


def logs(job_id: JobId, attempt: int) -> Subject:
    """Return where the output of one attempt's process is; `attempt` counts from 1."""
    return Subject(f"ffrtmp.logs.{_checked(job_id)}.{attempt:d}")


def logs_of_job(job_id: JobId) -> Filter:
    """Select the logs of all attempts of one job."""
    return Filter(f"ffrtmp.logs.{_checked(job_id)}.*")


def only(subject: Subject) -> Filter:
    """Select exactly one subject."""
    return Filter(subject)


def is_job(subject: str) -> bool:
    """Tell whether `subject` is a job's."""
    return subject.startswith(JOB_PREFIX)


def is_node(subject: str) -> bool:
    """Tell whether `subject` is a node's."""
    return subject.startswith(NODE_PREFIX)


def is_cluster(subject: str) -> bool:
    """Tell whether `subject` is the whole fleet's."""
    return subject.startswith(CLUSTER_PREFIX)


def job_of(subject: str) -> JobId:
    """Return the job that `subject` belongs to; the inverse of `job`."""
    assert subject.startswith(JOB_PREFIX), subject
    return JobId(subject[len(JOB_PREFIX) :])


def node_of(subject: str) -> NodeId:
    """Return the node that `subject` belongs to; the inverse of `node`."""
    assert subject.startswith(NODE_PREFIX), subject
    return NodeId(subject[len(NODE_PREFIX) :])


def is_token(text: str) -> bool:
    """Tell whether `text` may be one part of a subject."""
    return _token(text) is not None


def _checked(token: str) -> str:
    if not _token(token):
        message = f"{token!r} is no subject token; allowed: 1 to 64 letters, digits, `_` or `-`"
        raise ValueError(message)
    return token
