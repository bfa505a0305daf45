"""The request that changes how jobs are ranked, for the whole fleet and from now on."""

from events import subjects
from events.requests import Reply, SetPolicy, decode_request
from events.state.cluster import INITIAL, Cluster, evolve
from services.bus.port import Request
from services.clock import Pen
from services.log.persist import persistently
from services.log.port import EventLog
from services.scheduler.control.transact import Decided, Matter, once, settle
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
        decided = await persistently(lambda: self._settle(command, request), "controlling")
        return Reply(status=asked.policy.kind, seq=decided.seq)

    async def _settle(self, command: ChangePolicy, request: Request) -> Decided[Cluster]:
        matter = Matter(
            subject=subjects.POLICY,
            begin=INITIAL,
            evolve=evolve,
            decide=lambda state: decide(command, state),
            once=once(request),
            traceparent=request.traceparent,
        )
        return await settle(self._ledger, self._pen, matter)
