"""The state of the whole fleet: a fold of its facts; total, as `events.state.job` is."""

from msgspec import Struct
from msgspec.structs import replace

from events.cluster import LeaderElected, LeaderResigned, Policy, PolicyChanged
from events.codec import Recorded


class Cluster(Struct, frozen=True, kw_only=True):
    """What holds for the fleet; a policy that nobody has set is None."""

    policy: Policy | None = None
    leader: str = ""
    """The scheduler that decides; empty: none has been elected, or the last one resigned."""
    term: int = 0


INITIAL = Cluster()


def evolve(state: Cluster, recorded: Recorded) -> Cluster:
    """Apply one fact of the fleet."""
    match recorded.fact:
        case PolicyChanged(policy=policy):
            return replace(state, policy=policy)
        case LeaderElected(scheduler=scheduler, term=term) if term > state.term:
            return replace(state, leader=scheduler, term=term)
        case LeaderResigned(term=term) if term == state.term:
            return replace(state, leader="")
        case _:
            return state
