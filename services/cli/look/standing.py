"""What keeps work away from a node, in words: who or what took it out, why, and for how long."""

from services.cli.look.query import Row
from tui import present


def standing(row: Row, now_ms: float) -> tuple[str, ...]:
    """Return why a node of the table `nodes` gets no work, or less; empty: nothing keeps it away.

    The row has `until_ms`, the end of an open circuit since 1970 in milliseconds, None: it is not
    open.
    """
    words = [str(row["reason"])] if row["reason"] else []
    if row["draining"] or row["cordoned"]:
        words.append(_ordered(row))
    if row["circuit"] != "closed":
        words.append(_circuit(row, now_ms))
    if row["refusing"]:
        words.append(f"takes nothing new: {row['refusing']}")
    return tuple(words)


def _ordered(row: Row) -> str:
    over = row["status"] == "drained"
    order = ("drained" if over else "draining") if row["draining"] else "cordoned"
    if row["ordered_by"]:
        order += f" by {row['ordered_by']}"
    return order + (f": {row['order_reason']}" if row["order_reason"] else "")


def _circuit(row: Row, now_ms: float) -> str:
    why = f": {row['circuit_reason']}" if row["circuit_reason"] else ""
    if row["circuit"] == "half_open":
        return f"on probation, one attempt at a time{why}"
    if row["until_ms"] is None or row["until_ms"] <= now_ms:
        return f"circuit open, about to be tried again{why}"
    left = present.duration((row["until_ms"] - now_ms) / 1000)
    return f"circuit open for {left} more{why}"
