"""What a worker hears about itself on its node's subject, apart from its attempts.

Only what concerns this start of the worker counts: facts are of a node, and a node has had workers
before. A worker that lost its place ends without a word to the node: the place is another's now.
"""

import anyio
from msgspec import Struct

from events.codec import Fact, Unknown
from events.node import Draining, Lost, Recovered, Refused, Registered, Removed, Uncordoned


class Dismissal(Struct, frozen=True, kw_only=True):
    """Why this worker has lost its place."""

    reason: str
    in_order: bool
    """Whether somebody wanted it so; False: it was started wrongly, and so would be the next."""


class Orders:
    """Keeps what was asked of one start of a worker."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._draining = False
        self._changed = anyio.Event()
        self.dismissal: Dismissal | None = None
        self.dismissed = anyio.Event()
        self.review = anyio.Event()
        """Attempts may have been given to others; who reviews them puts a new event here."""

    async def until(self, *, draining: bool) -> None:
        """Wait until somebody wants the worker to finish and leave, or to stay after all."""
        while self._draining is not draining:
            await self._changed.wait()

    def hear(self, fact: Fact | Unknown) -> None:
        """Take note of a fact of the node, one after the other."""
        match fact:
            case Registered(epoch=epoch) if epoch > self._epoch:
                who = fact.address or fact.hardware.hostname or "elsewhere"
                self._dismiss(
                    f"another worker has registered under this id: {who}, fingerprint "
                    f"{fact.fingerprint or 'unknown'}; give one of them another --node-id"
                )
            case Refused(epoch=epoch) if epoch == self._epoch:
                self._dismiss(f"this worker is refused: {fact.reason or 'no reason was given'}")
            case Removed():
                by = f" by {fact.by}" if fact.by else ""
                self._dismiss(f"the node was removed from the fleet{by}", in_order=True)
            case Draining():
                self._drain(wanted=True)
            case Uncordoned():
                self._drain(wanted=False)
            case Lost() | Recovered():
                self.review.set()
            case _:
                pass

    def _drain(self, *, wanted: bool) -> None:
        self._draining = wanted
        self._changed.set()
        self._changed = anyio.Event()

    def _dismiss(self, reason: str, *, in_order: bool = False) -> None:
        if self.dismissal is None:
            self.dismissal = Dismissal(reason=reason, in_order=in_order)
            self.dismissed.set()
