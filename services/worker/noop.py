"""The engine that does nothing: what an attempt costs without its encode."""

from services.worker.port import Made, Report, Result, Work


class NoopExecutor:
    """Makes nothing, at once."""

    async def run(self, work: Work, report: Report) -> Result:
        """Return that the attempt is made, without a file."""
        del work, report
        return Made()

    def pause(self, work: Work) -> bool:
        """Refuse: it is over at once."""
        del work
        return False

    def resume(self, work: Work) -> None:
        """Do nothing; nothing is ever stopped."""

    async def usage(self, work: Work) -> None:
        """Return None: nothing runs."""
        del work

    async def promote(self, work: Work, made: Made) -> None:
        """Do nothing; there are no files."""
        del work, made

    async def discard(self, work: Work) -> None:
        """Do nothing; there are no files."""
        del work
