"""Identities, so that a node id can never be passed where a job id is meant."""

from typing import Annotated, NewType, TypeAlias

from msgspec import Meta

JobId = NewType("JobId", str)
NodeId = NewType("NodeId", str)
EventId = NewType("EventId", str)

END_OF_TEXT = r"$(?!\n)"
"""The end of a text in a pattern: Python's `$` alone also stands before a last line break, and a
line break in a subject would be a second line of the NATS protocol."""

TOKEN_PATTERN = "^[A-Za-z0-9_-]{1,64}" + END_OF_TEXT
"""What may stand between two dots of a NATS subject here: no dot, space, `*` or `>`."""

JobIdField: TypeAlias = Annotated[
    JobId, Meta(pattern=TOKEN_PATTERN, description="1 to 64 letters, digits, `_` or `-`.")
]
NodeIdField: TypeAlias = Annotated[
    NodeId, Meta(pattern=TOKEN_PATTERN, description="1 to 64 letters, digits, `_` or `-`.")
]
