"""Nodes: the pure fold of `events.state.node`, and the row that follows from each step of it.

All nodes stay hot: a fleet has thousands, and each says something every few seconds.
"""

import msgspec

from events import node as facts
from events.codec import Recorded
from events.state.node import INITIAL, Node, evolve
from events.telemetry import Heartbeat
from projections.fold.rows import Micros, NodeRow, capped, micros

_encode_state = msgspec.json.Encoder(order="deterministic").encode
_decode_state = msgspec.json.Decoder(Node).decode


class HotNode:
    """One node: its state, its row, and whether the row lies in the table."""

    __slots__ = ("row", "state", "stored")

    def __init__(self, row: NodeRow, state: Node = INITIAL, *, stored: bool = False) -> None:
        self.row = row
        self.state = state
        self.stored = stored


def resumed(row: NodeRow) -> HotNode:
    """Return the node that a stored `row` is of."""
    return HotNode(row, _decode_state(row.state), stored=True)


def first(recorded: Recorded, node_id: str) -> HotNode:
    """Return the node that `recorded` is the first fact of; its step is still to be made."""
    return HotNode(NodeRow(node_id=node_id, first_seq=recorded.seq, last_seq=recorded.seq))


def step(node: HotNode, recorded: Recorded, at: Micros) -> None:
    """Apply one fact to `node`."""
    after = evolve(node.state, recorded)
    row = node.row
    row.last_seq = recorded.seq
    if after.registered_seq == recorded.seq and isinstance(recorded.fact, facts.Registered):
        _register(row, after, recorded.fact, at)
    _order(row, recorded)
    row.status = after.status
    row.schedulable = after.schedulable
    row.cordoned = after.cordoned
    row.draining = after.draining
    row.reason = after.reason
    row.refusing = after.refusing
    row.circuit = after.circuit
    row.circuit_until = None if after.circuit_until is None else micros(after.circuit_until)
    row.slots = capped(after.slots)
    row.free = capped(after.free)
    node.state = after


def sealed(node: HotNode) -> NodeRow:
    """Return the row with what the fold needs to resume from it."""
    node.row.state = _encode_state(node.state).decode()
    return node.row


def report(node: HotNode, heartbeat: Heartbeat, at: Micros) -> bool:
    """Take a heartbeat into the row; return whether it is of the worker that is registered."""
    row = node.row
    if heartbeat.epoch != node.state.epoch:
        return False
    row.last_seen = at if row.last_seen is None else max(row.last_seen, at)
    row.running = capped(heartbeat.running)
    row.cpu_percent = heartbeat.cpu_percent
    row.memory_free_bytes = capped(heartbeat.memory_free_bytes)
    row.disk_free_bytes = capped(heartbeat.disk_free_bytes)
    return True


def _order(row: NodeRow, recorded: Recorded) -> None:
    """Write down who took the node out or let it back, and why: the state does not keep it."""
    match recorded.fact:
        case facts.Cordoned(by=by, reason=reason) | facts.Draining(by=by, reason=reason):
            row.ordered_by, row.order_reason = by, reason
        case facts.Uncordoned():
            row.ordered_by = row.order_reason = ""
        case facts.CircuitOpened(reason=reason):
            row.circuit_reason = reason
        case facts.CircuitClosed():
            row.circuit_reason = ""
        case _:
            pass


def _register(row: NodeRow, node: Node, fact: facts.Registered, at: Micros) -> None:
    hardware = node.hardware
    row.epoch = capped(node.epoch)
    row.capabilities = sorted(node.capabilities)
    row.hostname = hardware.hostname
    row.cpu_model = hardware.cpu_model
    row.cpu_threads = capped(hardware.cpu_threads)
    row.memory_bytes = capped(hardware.memory_bytes)
    row.disk_bytes = capped(hardware.disk_bytes)
    row.gpus = [gpu.name for gpu in sorted(hardware.gpus, key=lambda gpu: gpu.index)]
    row.encoder_sessions = capped(node.encoder_sessions)
    row.ffmpeg = hardware.ffmpeg
    row.address = node.address
    row.fingerprint = node.fingerprint
    row.worker_version = fact.version
    row.registered_at = at if node.registered_at is None else micros(node.registered_at)
    row.last_seen = at
    row.running = row.cpu_percent = row.memory_free_bytes = row.disk_free_bytes = None
