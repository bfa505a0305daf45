"""What services answer."""

from msgspec import Struct

from events.ids import JobId, NodeId
from events.job import Placement
from events.spec import Instant


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A refusal: a stable code, and words for people."""

    code: str
    message: str
    field: str = ""


class Reply(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to one request: what became of the job or the node, or why not."""

    job_id: str = ""
    node_id: str = ""
    status: str = ""
    seq: int = 0
    """Ledger sequence of the fact this request led to; 0 when it led to none."""
    duplicate: bool = False
    """The job was there already; nothing new was decided."""
    error: Problem | None = None


class Replies(Struct, frozen=True, kw_only=True):
    """The answers to a bulk request, in its order."""

    results: tuple[Reply, ...]


class Verdict(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether one node could take the job now."""

    node: NodeId
    able: bool
    reason: str = ""
    """Why not: `offline`, `cordoned`, `full`, `lacks codec:av1`, …; empty when it is able."""


class Rival(Struct, frozen=True, kw_only=True):
    """A job that is given out before the one that is asked about."""

    job: JobId
    why: str
    """What puts it ahead, as `weighs 30, this one 10`."""


class Try(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt of a job, as it went."""

    attempt: int
    node: NodeId
    assigned: Instant
    started: Instant | None = None
    ended: Instant | None = None
    """None: it has not."""
    end: str = ""
    """How it ended, in words; empty: it has not."""


class Explanation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a job is where it is: at once for people, and in figures."""

    job_id: str = ""
    status: str = ""
    seq: int = 0
    """Ledger sequence up to which this is true."""
    time: Instant | None = None
    """Instant at which this is true; None: there is no such job."""
    summary: str = ""
    """Why it is where it is, in a sentence or two."""
    next: str = ""
    """What must happen for it to get on; empty when nothing will."""
    weight: float = 0.0
    """Of its queue times that of its priority, as the policy in force has it."""
    waited_s: float = 0.0
    """From its submission until it was assigned last; until now while it waits."""
    policy: str = ""
    """By which waiting jobs are ordered."""
    deadline: Instant | None = None
    requires: tuple[str, ...] = ()
    """What a node must have to run it."""
    position: int | None = None
    """Place among the jobs that wait for the same kind of node, 1 is next; None: it does not
    wait to be assigned."""
    overall: int | None = None
    """Place among all jobs that wait to be assigned, whatever they need; None: it does not wait,
    or is farther back than is counted."""
    estimate: str = ""
    """How the position is meant: empty is exactly; `about` or `at least`."""
    ahead: tuple[Rival, ...] = ()
    """Jobs of its kind that come before it, the first first; at most 5."""
    waiting: int = 0
    """How many jobs wait to be assigned, of all kinds."""
    node: str = ""
    """Who has it, or had it last."""
    placement: Placement | None = None
    """Why it went to that node, as its assignment says."""
    verdicts: tuple[Verdict, ...] = ()
    """The nodes that were looked at, the likeliest first; at most 20."""
    nodes: int = 0
    """How many nodes there are."""
    excluded: dict[str, int] = {}
    """How many nodes cannot take it now, by reason."""
    attempts: tuple[Try, ...] = ()
    """Its attempts, the first first; the last 20."""
    error: Problem | None = None
