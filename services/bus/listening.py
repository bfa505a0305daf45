"""Plain messages that wait for one who listens to take them: shared by the adapters of the bus."""

from collections import deque
from collections.abc import AsyncGenerator

import anyio
import structlog

from services.bus.port import Message

_log = structlog.get_logger(__name__)


class Mailbox:
    """Messages in the order they came, at most `backlog_max`; what comes to a full one is lost."""

    def __init__(self, backlog_max: int) -> None:
        assert backlog_max >= 1, backlog_max
        self._backlog_max = backlog_max
        self._waiting: deque[Message] = deque()
        self._filled = anyio.Event()
        self._lost = 0

    def put(self, message: Message) -> None:
        """Let the message wait; must not block, so it is dropped where there is no room."""
        if len(self._waiting) >= self._backlog_max:
            self._lost += 1
            return
        self._waiting.append(message)
        self._filled.set()

    async def messages(self) -> AsyncGenerator[Message]:
        """Yield messages as they come."""
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._lost:
                _log.warning("bus.messages_dropped", count=self._lost, allowed=self._backlog_max)
                self._lost = 0
            self._filled = anyio.Event()
            await self._filled.wait()
