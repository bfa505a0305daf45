"""What stands in for an engine that this node does not have."""

from events.job import FailureClass
from events.spec import Engine
from services.worker.port import Broken, Made, Report, Result, Work


class NoExecutor:
    """Fails every attempt with words that say why; another node may have the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def run(self, work: Work, report: Report) -> Result:
        """Fail the attempt."""
        del work, report
        return Broken(
            failure=FailureClass.RESOURCE, message=f"this node has no engine {self._engine}"
        )

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
        """Do nothing: there are no files."""

    async def discard(self, work: Work) -> None:
        """Do nothing: there are no files."""
