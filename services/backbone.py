"""Everything a service stands on, as ports: what the composition root hands it."""

from msgspec import Struct

from services.bus.port import Bus, Inbox
from services.lease.port import Lease
from services.log.port import EventLog


class Backbone(Struct, frozen=True, kw_only=True):
    """The streams of one fleet, and the bus beside them."""

    ledger: EventLog
    """Decisions and transitions: the truth."""
    telemetry: EventLog
    """Heartbeats and progress; expires."""
    logs: EventLog
    """Output of processes; expires."""
    inbox: Inbox
    """Durable commands of other systems."""
    bus: Bus
    lease: Lease
    """Of the one scheduler that decides."""
