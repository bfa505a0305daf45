"""The accident of the demo: the worker of one job is killed in mid-encode."""

import os
import signal
from collections.abc import Mapping

import click

from events import subjects
from events.codec import Recorded
from events.ids import JobId
from events.telemetry import Progress


class Accident:
    """Kills the first worker that is seen to encode `job`, once, as the kernel would: kill -9."""

    def __init__(self, job: JobId, pids: Mapping[str, int]) -> None:
        self._subject = subjects.telemetry_of_job(job)
        self._job = job
        self._pids = pids
        """Process ids of the workers by the names of their nodes, as they are now."""
        self.attempt = 0
        """The attempt it hit; 0: it has not happened."""

    def see(self, recorded: Recorded) -> None:
        """Strike if this is the first progress of the job."""
        fact = recorded.fact
        if self.attempt or recorded.subject != self._subject or not isinstance(fact, Progress):
            return
        self.attempt = fact.attempt
        pid = self._pids[fact.node]
        click.echo(f"\n== Killing the worker of {self._job} in mid-encode: kill -9 {pid}\n")
        os.kill(pid, signal.SIGKILL)

    def problem(self, attempts: int) -> str | None:
        """Return what is wrong, given the number of attempts the job took; None: nothing."""
        if not self.attempt:
            return f"{self._job} ended before its worker could be killed"
        if attempts <= self.attempt:
            return f"{self._job} did not run again after its worker was killed"
        return None
