"""`ffrtmp demo` as a person runs it: it checks itself, and its exit status is the verdict."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.acceptance

DEMO_S_MAX = 240
"""Far above its usual 20 s: other tests may share the machine."""


def test_the_demo_finds_everything_as_it_should_be(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.cli.main", "demo", "--keep", str(tmp_path / "kept")],
        capture_output=True,
        text=True,
        timeout=DEMO_S_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "== All is as it should be" in done.stdout
    assert "== Killing the worker of demo-survivor in mid-encode: kill -9" in done.stdout
    made = [path for path in (tmp_path / "kept").rglob("*") if path.suffix in {".mp4", ".webm"}]
    assert len(made) >= 8
