"""A whole backbone in memory: for tests and simulations."""

from typing import cast

from services.backbone import Backbone
from services.bus.memory import MemoryBus, MemoryInbox
from services.lease.memory import MemoryLease
from services.log.memory import MemoryLog


def memory_backbone() -> Backbone:
    """Return empty streams and a bus, all in this process.

    Their concrete types are `MemoryLog`, `MemoryInbox` and `MemoryBus`.
    """
    return Backbone(
        ledger=MemoryLog("FFRTMP_LEDGER"),
        telemetry=MemoryLog("FFRTMP_TELEMETRY"),
        logs=MemoryLog("FFRTMP_LOGS"),
        inbox=MemoryInbox(),
        bus=MemoryBus(),
        lease=MemoryLease(),
    )


def memory_inbox(backbone: Backbone) -> MemoryInbox:
    """Return the inbox of a `memory_backbone`, as what it is: with `put` and `waiting`."""
    return cast(MemoryInbox, backbone.inbox)
