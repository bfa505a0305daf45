"""What clients ask for: imperative, never stored, may be refused.

The same payloads travel on the durable subjects (`ffrtmp.cmd.>`) and on the ones that answer
(`ffrtmp.api.>`). Unknown fields are refused at every depth: a typo must not become a default.
"""

from events.requests.answers import Explanation, Problem, Replies, Reply, Rival, Try, Verdict
from events.requests.jobs import (
    BULK_JOBS_MAX,
    CancelJob,
    ExplainJob,
    PauseJob,
    ReprioritizeJob,
    ResumeJob,
    RetryJob,
    SubmitJob,
    SubmitMany,
    derive_job_id,
    spec_of,
)
from events.requests.nodes import CordonNode, DrainNode, RemoveNode, SetPolicy, UncordonNode
from events.requests.query import SQL_CHARACTERS_MAX, Params, QueryRequest, QueryResult, Value
from events.requests.reading import BODY_BYTES_MAX, InvalidRequest, decode_request

__all__ = [
    "BODY_BYTES_MAX",
    "BULK_JOBS_MAX",
    "SQL_CHARACTERS_MAX",
    "CancelJob",
    "CordonNode",
    "DrainNode",
    "ExplainJob",
    "Explanation",
    "InvalidRequest",
    "Params",
    "PauseJob",
    "Problem",
    "QueryRequest",
    "QueryResult",
    "RemoveNode",
    "Replies",
    "Reply",
    "ReprioritizeJob",
    "ResumeJob",
    "RetryJob",
    "Rival",
    "SetPolicy",
    "SubmitJob",
    "SubmitMany",
    "Try",
    "UncordonNode",
    "Value",
    "Verdict",
    "decode_request",
    "derive_job_id",
    "spec_of",
]
