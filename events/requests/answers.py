"""What services answer."""

from msgspec import Struct

from events.ids import NodeId
from events.job import Placement


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


class Explanation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a job is where it is: at once for people, and in figures."""

    job_id: str = ""
    status: str = ""
    seq: int = 0
    """Ledger sequence up to which this is true."""
    summary: str = ""
    """Why it is where it is, in a sentence or two."""
    next: str = ""
    """What must happen for it to get on; empty when nothing will."""
    weight: float = 0.0
    waited_s: float = 0.0
    position: int | None = None
    """Place among the jobs that wait for the same kind of node, 1 is next; None: it does not
    wait to be assigned."""
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
    error: Problem | None = None
