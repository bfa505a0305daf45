"""What a node has and what is left of it: slots, threads, memory, GPU devices, encoder sessions.

What a job takes is reserved from its assignment to the fact that ends it. What a node does not tell
of itself is not counted there: it has declined before it is oversold.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from events.node import Hardware
from events.state.node import Circuit, Node, NodeStatus
from services.scheduler.state.needs import GPU, HARDWARE_SUFFIXES, Need

UNCOUNTED = 2**62
"""An amount that no job exhausts."""
_SOFTWARE = {
    "h264": ("libx264", "libopenh264"),
    "hevc": ("libx265",),
    "vp9": ("libvpx-vp9",),
    "av1": ("libsvtav1", "libaom-av1", "librav1e"),
}
"""Software encoders by codec: a node takes one of these before a hardware encoder."""


class Resources(NamedTuple):
    """Amounts of what is counted."""

    slots: int = 0
    cpu_threads: int = 0
    memory_bytes: int = 0
    gpus: int = 0
    sessions: int = 0


NOTHING = Resources()
SHORT = ("full", "threads", "memory", "gpu", "encoder sessions")
"""What each resource is called where it is too little, in their order."""


def size(node: Node) -> Resources:
    """Return all that a node has; `UNCOUNTED` is what it does not tell."""
    hardware = node.hardware
    gpus = len(hardware.gpus)
    return Resources(
        slots=node.slots,
        cpu_threads=UNCOUNTED if hardware == _UNREAD else hardware.cpu_threads,
        memory_bytes=hardware.memory_bytes or UNCOUNTED,
        gpus=gpus if gpus or GPU not in node.capabilities else UNCOUNTED,
        sessions=gpus * node.encoder_sessions or UNCOUNTED,
    )


_UNREAD = Hardware()


def cost(need: Need, hardware_only: frozenset[str]) -> Resources:
    """Return what a job takes on a node that has only hardware encoders for these codecs."""
    sessions = need.sessions
    if hardware_only:
        sessions += sum(codec in hardware_only for codec in need.codecs)
    gpus = 0 if sessions else need.gpus
    return Resources(1, need.cpu_threads, need.memory_bytes, gpus, sessions)


@lru_cache(maxsize=10_000)
def hardware_only(capabilities: frozenset[str]) -> frozenset[str]:
    """Return the codecs that a node with these capabilities makes in hardware alone."""
    encoders = {each.removeprefix("encoder:") for each in capabilities if "encoder:" in each}
    return frozenset(
        codec
        for codec, software in _SOFTWARE.items()
        if encoders.isdisjoint(software)
        and any(codec + suffix in encoders for suffix in HARDWARE_SUFFIXES)
    )


def plus(one: Resources, other: Resources) -> Resources:
    """Return the sums."""
    a, b, c, d, e = one
    v, w, x, y, z = other
    return Resources(a + v, b + w, c + x, d + y, e + z)


def minus(one: Resources, other: Resources) -> Resources:
    """Return the differences; below zero where more is taken than there is."""
    a, b, c, d, e = one
    v, w, x, y, z = other
    return Resources(a - v, b - w, c - x, d - y, e - z)


def covers(there: Resources, asked: Resources) -> bool:
    """Tell whether all that is asked is there."""
    return (
        there[0] >= asked[0]
        and there[1] >= asked[1]
        and there[2] >= asked[2]
        and there[3] >= asked[3]
        and there[4] >= asked[4]
    )


def has_gpu(node: Node) -> bool:
    """Tell whether the node is to be kept free for work that needs a GPU."""
    return GPU in node.capabilities or bool(node.hardware.gpus)


def free(node: Node, taken: Resources, whole: Resources | None = None) -> Resources:
    """Return what is left of a node; on probation it has one slot in all.

    `whole` is its size where that is known already.
    """
    left = minus(size(node) if whole is None else whole, taken)
    if node.circuit is Circuit.HALF_OPEN:
        return left._replace(slots=min(left.slots, 1 - taken.slots))
    return left


def registered(node: Node) -> bool:
    """Tell whether the node is part of the fleet, alive or not."""
    status = node.status
    return node.epoch > 0 and status is not NodeStatus.REMOVED and status is not NodeStatus.REFUSED


def live(node: Node) -> bool:
    """Tell whether a job may wait for this node: it lives, and nobody has set it aside."""
    alive = node.status in {NodeStatus.ONLINE, NodeStatus.SUSPECTED}
    return alive and not node.cordoned and not node.draining


def fits_ever(node: Node, need: Need) -> bool:
    """Tell whether the node, empty and at its best, could run such a job."""
    best = size(node)._replace(slots=UNCOUNTED)
    return need.capabilities <= node.capabilities and not short(node, need, best)


def short(node: Node, need: Need, there: Resources) -> str:
    """Return which resource is too little in what is `there`; empty: none is."""
    asked = cost(need, hardware_only(node.capabilities))
    return next((SHORT[at] for at, a in enumerate(asked) if a > there[at]), "")


def why_not(node: Node, need: Need, taken: Resources = NOTHING) -> str | None:
    """Return in a few stable words why the node cannot take such a job now; None: it can.

    `offline`, `lost`, `cordoned`, `draining`, `circuit open`, `refusing: …`, `lacks codec:av1`, and
    what is too little: `full`, `threads`, `memory`, `gpu`, `encoder sessions`. `taken` is what is
    reserved there. Which nodes a job avoids is the world's to tell: `World.why_not`.
    """
    return closed(node) or _unable(node, need) or short(node, need, free(node, taken)) or None


_STATUS = {NodeStatus.LOST: "lost", NodeStatus.SUSPECTED: "suspected"}


def closed(node: Node) -> str:
    """Return why the node takes nothing of any kind; empty: it takes what fits."""
    if node.status is not NodeStatus.ONLINE:
        return _STATUS.get(node.status, "offline")
    if node.cordoned:
        return "cordoned"
    if node.draining:
        return "draining"
    if node.circuit is Circuit.OPEN:
        return "circuit open"
    return f"refusing: {node.refusing}" if node.refusing else ""


def _unable(node: Node, need: Need) -> str:
    missing = sorted(need.capabilities - node.capabilities)
    if missing:
        return f"lacks {', '.join(missing)}"
    wanted = short(node, need, size(node))
    if wanted:
        return wanted
    return "full" if node.full else ""


def beyond(nodes: Sequence[Node], need: Need) -> str:
    """Return how the need is beyond each of `nodes`, which have the capabilities, in words."""
    asked = [cost(need, each) for each in {hardware_only(node.capabilities) for node in nodes}]
    there = [each._replace(slots=UNCOUNTED) for each in {size(node) for node in nodes}]
    for at, name in enumerate(_NAMES):
        least, most = min(each[at] for each in asked), max(each[at] for each in there)
        if least > most:
            return f"asks for {_amount(least, name)}; the largest node has {_amount(most, name)}"
    return "asks for more of several things at once than any one node has"


_NAMES = ("slots", "CPU threads", "of memory", "GPUs", "encoder sessions")


def _amount(count: int, name: str) -> str:
    return f"{count / 2**30:.4g} GiB {name}" if name == "of memory" else f"{count} {name}"
