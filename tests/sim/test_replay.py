"""A seed is a run: the same facts in the same order, on any machine, in any process."""

import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import pytest

from tests.sim.fleet import Plan, simulate

ROOT = Path(__file__).parents[2]


def fingerprint(seed: int) -> str:
    """Return a digest of the ledger that a seed leads to."""
    with tempfile.TemporaryDirectory() as folder:
        ran = simulate(Plan(seed=seed), Path(folder))
    digest = sha256()
    for event in ran.ledger:
        digest.update(f"{event.seq} {event.subject} {event.time} {event.type}".encode())
        digest.update(bytes(event.data))
    return digest.hexdigest()


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_seed_replays_exactly_in_another_process(hash_seed: str) -> None:
    code = "from tests.sim.test_replay import fingerprint; print(fingerprint(7))"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert answer.stdout.split() == [fingerprint(7)]


def test_another_seed_is_another_run() -> None:
    assert fingerprint(7) != fingerprint(8)
