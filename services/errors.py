"""What can go wrong, and who may catch it.

    FfrtmpError
    |-- Conflict            a race: another writer was first; read again and decide again
    |-- LogUnavailable      an outage: retry with back-off
    |-- SequenceGap         corruption: the log has a hole; stop this service, alert
    |-- ConfigurationError  a person's mistake: say what was given, what is allowed, what to do
    |-- StoreBusy           another process owns the file
    |-- QueryRefused        a question the projection does not answer; the message says why
    `-- UnreadableAnswer    a reply that is none; versions may not fit together

Refusals (`events.requests.Problem`) and failed encodes (`events.job.AttemptFailed`) are answers
and facts, not exceptions.
"""


class FfrtmpError(Exception):
    """Root of all errors raised on purpose."""


class Conflict(FfrtmpError):
    """Another writer was first; `current` is the last sequence on the subject, None: not told."""

    def __init__(self, subject: str, current: int | None) -> None:
        super().__init__(f"{subject}: somebody else wrote first; last sequence is {current}")
        self.subject = subject
        self.current = current


class LogUnavailable(FfrtmpError):
    """The log did not answer in time; whether anything was stored has been left open."""


class SequenceGap(FfrtmpError):
    """The log has lost messages: `first` to `last` are missing from `stream`."""

    def __init__(self, stream: str, first: int, last: int) -> None:
        super().__init__(
            f"{stream}: sequences {first} to {last} are missing; restore the store from a replica "
            "or a backup before going on"
        )
        self.stream = stream
        self.first = first
        self.last = last


class ConfigurationError(FfrtmpError):
    """A setting or an environment that cannot work; the message says what to do."""


class StoreBusy(FfrtmpError):
    """Another process owns the file."""


class QueryRefused(FfrtmpError):
    """The projection does not answer this question; `code` is stable, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class UnreadableAnswer(FfrtmpError):
    """The service answered with something else than an answer; versions may not fit together."""
