"""What can go wrong with a projection, and who may catch it.

ProjectionError
|-- StoreBusy      another process owns the file; a person's mistake, or wait for it to end
|-- StoreUnusable  the file cannot be opened or set aside; a person must look
|-- OutOfOrder     a batch does not follow what is stored; the caller's mistake, nothing written
`-- QueryRefused   the projector did not answer a question; `problem` says why
"""

from pathlib import Path

from events.requests import Problem


class ProjectionError(Exception):
    """Root of all errors that projections raise on purpose."""


class StoreBusy(ProjectionError):
    """Another projector owns the file; each has its own."""

    def __init__(self, path: Path, owner: str) -> None:
        held = f" by process {owner}" if owner else ""
        super().__init__(
            f"{path} is in use{held}; end that projector, or give this one a file of its own"
        )
        self.path = path
        self.owner = owner
        """Process id of the owner; empty when it is not known."""


class StoreUnusable(ProjectionError):
    """The file cannot be opened, made or set aside."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class OutOfOrder(ProjectionError):
    """A batch of `stream` begins or goes on with `given` where `expected` should be."""

    def __init__(self, stream: str, expected: int, given: int) -> None:
        super().__init__(f"{stream}: sequence {expected} comes next, {given} was given")
        self.stream = stream
        self.expected = expected
        self.given = given


class QueryRefused(ProjectionError):
    """The projector did not answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.code}: {problem.message}")
        self.problem = problem
