"""The decider of the whole fleet: how jobs are to be ranked."""

from msgspec import Struct

from events.cluster import ClusterFact, Policy, PolicyChanged
from events.state.cluster import Cluster


class ChangePolicy(Struct, frozen=True, kw_only=True):
    """Rank jobs by this policy from now on."""

    policy: Policy
    by: str = ""
    reason: str = ""


def decide(command: ChangePolicy, cluster: Cluster) -> tuple[ClusterFact, ...]:
    """Return the fact that follows; none: it is the policy already.

    Where nobody has set one, schedulers rank by their settings: then any is a change.
    """
    if cluster.policy == command.policy:
        return ()
    return (PolicyChanged(policy=command.policy, by=command.by, reason=command.reason),)
