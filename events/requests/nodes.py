"""What is asked about nodes, and of the fleet as a whole."""

from msgspec import Struct

from events.cluster import Policy
from events.ids import NodeIdField
from events.requests.jobs import By, Why


class CordonNode(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Give this node nothing new; what runs there goes on."""

    node_id: NodeIdField
    by: By = ""
    reason: Why = ""


class UncordonNode(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Let this node have work again, whoever or whatever took it out."""

    node_id: NodeIdField
    by: By = ""


class DrainNode(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Let this node finish what runs there, give it nothing new, and end its worker."""

    node_id: NodeIdField
    by: By = ""
    reason: Why = ""


class RemoveNode(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Forget this node, which must not be alive; it comes back by registering."""

    node_id: NodeIdField
    by: By = ""


class SetPolicy(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rank jobs by this policy from now on; what is left out is as in a fresh fleet."""

    policy: Policy
    by: By = ""
    reason: Why = ""
