"""How a decider says no: by a name that is stable, and in words for people."""

from enum import StrEnum


class Refusal(StrEnum):
    """Why a command was refused; a metric label and the code of a reply."""

    JOB_UNKNOWN = "job_unknown"
    JOB_ENDED = "job_ended"
    JOB_NOT_RUNNING = "job_not_running"
    JOB_DIFFERS = "job_differs"
    """A job of this id is there already, with another specification."""
    NODE_UNKNOWN = "node_unknown"
    NODE_REMOVED = "node_removed"
    NODE_ALIVE = "node_alive"


class Refused(Exception):
    """The command is understood and refused; the log is unchanged."""

    def __init__(self, refusal: Refusal, message: str, field: str = "") -> None:
        super().__init__(message)
        self.refusal = refusal
        self.message = message
        self.field = field
        """Where in the request, as `$.queue`; empty: its id is meant."""
