"""Which nodes could run a job, and why the others cannot: counted, and one by one."""

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from heapq import nsmallest

from msgspec import Struct

from events.ids import NodeId
from events.requests import Verdict
from services.scheduler.explaining.words import at_clock, many, size
from services.scheduler.state import capacity
from services.scheduler.state.capacity import NOTHING, UNCOUNTED
from services.scheduler.state.needs import Need
from services.scheduler.state.world import World

VERDICTS_MAX = 20
"""Most nodes told one by one."""
REASONS_MAX = 20
"""Most reasons counted apart; what is rarer is counted together."""
REST = "other reasons"

ABLE = ""
TOO_SMALL = "too small"
LACKS = "lacks"
NEVER = (TOO_SMALL, LACKS)
"""How reasons begin that do not pass by themselves."""
SHORT = frozenset(capacity.SHORT)
"""Reasons that pass when an attempt on the node ends."""
_LIKELY = (
    *(ABLE, *capacity.SHORT, "avoided", "refusing", "circuit open", "cordoned", "draining"),
    *("suspected", "lost", "offline", *NEVER),
)
"""Why a node cannot take the job now, the likeliest to pass first; empty: it can."""
_RANK = {reason: rank for rank, reason in enumerate(_LIKELY)}


class Survey(Struct, frozen=True, kw_only=True):
    """What came of looking at every node."""

    need: Need
    nodes: int
    """Registered ones, not removed."""
    capable: int
    """Those that could run it if they were empty and at their best."""
    able: Sequence[NodeId]
    """Those that can take it now, the ones told of."""
    short: Sequence[NodeId]
    """Those that could but for room, the ones told of."""
    verdicts: tuple[Verdict, ...]
    """The likeliest first."""
    excluded: dict[str, int]
    impossible: str
    """Why no node could ever run it, in words; empty: one could."""


def survey(world: World, need: Need) -> Survey:
    """Look at all nodes for one job, once at each that are alike; however many jobs wait."""
    counts: Counter[str] = Counter()
    found: list[tuple[int, str, list[NodeId]]] = []
    for nodes in _alike(world, need):
        said = why_not(world, nodes[0], need)
        reason = said if said.startswith(LACKS) else said.partition(":")[0]
        counts[reason] += len(nodes)
        found.append((_rank(reason), said, nodes))
    total = counts.total()
    never = sum(number for reason, number in counts.items() if _rank(reason) >= _RANK[TOO_SMALL])
    counts.pop(ABLE, None)
    capable = total - never
    likeliest = _likeliest(found)
    return Survey(
        need=need,
        nodes=total,
        capable=capable,
        able=[node for node, said in likeliest if said == ABLE],
        short=[node for node, said in likeliest if said in SHORT],
        verdicts=tuple(
            Verdict(node=node, able=said == ABLE, reason=_in_full(world, node, need, said))
            for node, said in likeliest
        ),
        excluded=_counted(counts),
        impossible="" if capable or not total else _impossible(world, need),
    )


def _alike(world: World, need: Need) -> Collection[list[NodeId]]:
    """Return the registered nodes, together where the same keeps such a job from them."""
    found: dict[Hashable, list[NodeId]] = {}
    for node_id, node in world.nodes.items():
        if capacity.registered(node):
            found.setdefault(world.alike(node_id, need), []).append(node_id)
    return found.values()


def _likeliest(found: Sequence[tuple[int, str, list[NodeId]]]) -> list[tuple[NodeId, str]]:
    """Return the nodes that are told of, the likeliest first, each with what was said of it."""
    most = nsmallest(
        VERDICTS_MAX,
        (
            (rank, node, said)
            for rank, said, nodes in found
            for node in nsmallest(VERDICTS_MAX, nodes)
        ),
    )
    return [(node, said) for _, node, said in most]


def why_not(world: World, node_id: NodeId, need: Need) -> str:
    """Return what keeps such a job from this node now, as `world.why_not`; empty: nothing.

    Beyond that it tells apart what is too little now from what is too little for ever.
    """
    said = world.why_not(node_id, need)
    if said in SHORT and not capacity.fits_ever(world.node(node_id), need):
        return f"{TOO_SMALL}: {said}"
    return said or ABLE


def _in_full(world: World, node_id: NodeId, need: Need, said: str) -> str:
    """Return the reason with the figures behind it."""
    node = world.node(node_id)
    match said:
        case "full":
            taken = len(world.held.get(node_id, ()))
            declined = ", and it declined work" if node.full else ""
            return f"full: {taken} of {many(node.slots, 'slot')} taken{declined}"
        case "avoided":
            return "avoided: an attempt of this job found too little there"
        case "circuit open" if node.circuit_until is not None:
            return f"circuit open: until {at_clock(node.circuit_until)}"
        case "lost" | "suspected" | "offline" if node.reason:
            return f"{said}: {node.reason}"
        case _ if said in SHORT:
            return f"{said}: {_amounts(world, node_id, need, said)}"
        case _:
            return said


def _amounts(world: World, node_id: NodeId, need: Need, said: str) -> str:
    node = world.node(node_id)
    place = capacity.SHORT.index(said)
    asked = capacity.cost(need, capacity.hardware_only(node.capabilities))[place]
    free = max(capacity.free(node, world.taken.get(node_id, NOTHING))[place], 0)
    if free >= UNCOUNTED:
        return f"needs {asked:,}"
    shown = size if said == "memory" else "{:,}".format
    return f"needs {shown(asked)}, {shown(free)} free"


def _impossible(world: World, need: Need) -> str:
    """Return what no registered node has."""
    nodes = [node for node in world.nodes.values() if capacity.registered(node)]
    having = [node for node in nodes if need.capabilities <= node.capabilities]
    if having:
        return f"it {capacity.beyond(having, need)}"
    missing = need.capabilities.difference(*(node.capabilities for node in nodes))
    if missing:
        return f"no node has {' or '.join(sorted(missing))}"
    return f"no node has all of {', '.join(sorted(need.capabilities))}"


def _rank(reason: str) -> int:
    return _RANK.get(reason, _RANK[LACKS])


def _counted(counts: Counter[str]) -> dict[str, int]:
    common = dict(counts.most_common(REASONS_MAX))
    rest = counts.total() - sum(common.values())
    return common | ({REST: rest} if rest else {})
