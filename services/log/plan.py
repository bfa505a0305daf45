"""What an append may ask for: one rule for all adapters, checked before anything is stored."""

from collections.abc import Sequence

from services.log.port import ATOMIC_ENTRIES_MAX, Entry


def grouped(entries: Sequence[Entry]) -> dict[str, list[tuple[int, Entry]]]:
    """Return the entries of each subject with their places, in order.

    Raises ValueError when an entry other than the first of its subject carries an expectation.
    """
    groups: dict[str, list[tuple[int, Entry]]] = {}
    for place, entry in enumerate(entries):
        subject = entry.event.subject
        members = groups.get(subject)
        if members is None:
            groups[subject] = [(place, entry)]
        else:
            _refuse_late_expectation(entry)
            members.append((place, entry))
    return groups


def checked_atomic(entries: Sequence[Entry]) -> None:
    """Raise ValueError unless `entries` can be one all-or-none append."""
    if not 1 <= len(entries) <= ATOMIC_ENTRIES_MAX:
        raise ValueError(
            f"an atomic append has {len(entries)} entries; allowed: 1 to {ATOMIC_ENTRIES_MAX}"
        )
    seen: set[str] = set()
    for entry in entries:
        if entry.event.subject in seen:
            _refuse_late_expectation(entry)
        seen.add(entry.event.subject)


def _refuse_late_expectation(entry: Entry) -> None:
    if entry.expected is not None:
        raise ValueError(
            f"{entry.event.subject}: only the first entry of a subject may carry an expectation, "
            f"a later one expects {entry.expected}"
        )
