"""The request that changes how jobs are ranked, for the whole fleet and from now on."""

from events import subjects
from events.requests import Reply, SetPolicy, decode_request
from events.state.cluster import Cluster
from services.bus.port import Request
from services.clock import Pen
from services.log.entity import load_policy
from services.log.persist import persistently
from services.log.port import EventLog
from services.scheduler.control.transact import Decided, Matter, settle
from services.scheduler.deciders.cluster import ChangePolicy, decide


class PolicyControl:
    """Carries it out."""

    def __init__(self, ledger: EventLog, pen: Pen) -> None:
        self._ledger = ledger
        self._pen = pen

    async def carry_out(self, request: Request) -> Reply:
        """Decide on one request; the answer tells the kind of policy that holds.

        Raises InvalidRequest when it cannot be read, Conflict when others were always first.
        """
        asked = decode_request(SetPolicy, request.body)
        command = ChangePolicy(policy=asked.policy, by=asked.by, reason=asked.reason)
        decided = await persistently(
            lambda: self._settle(command, request.traceparent), "controlling"
        )
        return Reply(status=asked.policy.kind, seq=decided.seq)

    async def _settle(self, command: ChangePolicy, traceparent: str | None) -> Decided[Cluster]:
        matter = Matter(
            subject=subjects.POLICY,
            load=lambda: load_policy(self._ledger),
            decide=lambda state: decide(command, state),
            traceparent=traceparent,
        )
        return await settle(self._ledger, self._pen, matter)
