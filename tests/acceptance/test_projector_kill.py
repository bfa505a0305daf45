"""Killed at any instant, the projection goes on without a lost, doubled or differing row."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from projections.store import Store
from tests.projecting import everything, fleet, projected, rows

pytestmark = pytest.mark.acceptance

REPO = Path(__file__).parents[2]
KILLS = 20
ROUNDS = 60
SEED = 20260131
KILL_S_MAX = 0.1
"""A child is killed between nothing and this after its first batch."""
CHILD = """
import sys
from pathlib import Path
from projections.store import Store
from tests.projecting import fleet
recorded = fleet(int(sys.argv[2])).recorded
store = Store(Path(sys.argv[1]))
while store.position < len(recorded):
    store.apply(recorded[store.position : store.position + 5])
    print(store.position, flush=True)
store.close()
"""


def start(path: Path) -> subprocess.Popen[bytes]:
    """Start a process that projects the rest of the ledger in small batches."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(ROUNDS)],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def killed(path: Path, delay_s: float) -> int:
    """Let a child write for a while, kill it; return the position it had told last."""
    with start(path) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        try:
            child.wait(delay_s)
        except subprocess.TimeoutExpired:
            child.kill()
        rest = child.stdout.read().split()
        child.wait()
        assert child.returncode == -9, child.stderr.read().decode() if child.stderr else ""
        return int((rest or [first])[-1])


def test_twenty_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    recorded = fleet(ROUNDS).recorded
    path = tmp_path / "killed" / "projection.duckdb"
    dice = random.Random(SEED)
    told = [killed(path, dice.uniform(0, KILL_S_MAX)) for _ in range(KILLS)]
    assert told == sorted(set(told)), "each child went on where the one before had been"
    assert told[-1] < len(recorded), "the last child too was killed at work"
    store = Store(path)
    assert store.position >= told[-1]
    assert rows(store, "SELECT count(*), min(seq), max(seq) FROM audit") == [
        (store.position, 1, store.position)
    ]
    store.apply(recorded[store.position :])
    found = everything(store)
    store.close()
    whole = projected(tmp_path, recorded)
    assert found == everything(whole)
    whole.close()
    assert [row[0] for row in found["audit"]] == list(range(1, len(recorded) + 1))
