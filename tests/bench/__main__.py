"""`make bench`: measures, prints one JSON document, and keeps it under ops/bench/results/.

python -m tests.bench [NAME ...]      names: drain, latency, encode, scheduling
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio

from tests.bench import bench_scheduling, pipeline

RESULTS = Path(__file__).resolve().parents[2] / "ops" / "bench" / "results"

MEASURES: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
    "drain-100ms": lambda: pipeline.drain("100ms"),
    "drain-always": lambda: pipeline.drain("always"),
    "latency-100ms": lambda: pipeline.latency("100ms"),
    "latency-always": lambda: pipeline.latency("always"),
    "encode": pipeline.encode,
    "scheduling": bench_scheduling.scheduling,
}


async def main(wanted: list[str]) -> None:
    """Run what is wanted, one after the other, and write the results."""
    results: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
    }
    for name, measure in MEASURES.items():
        if not wanted or any(name.startswith(word) for word in wanted):
            sys.stderr.write(f"{name} …\n")
            results[name] = await measure()
            sys.stderr.write(f"  {json.dumps(results[name])}\n")
    text = json.dumps(results, indent=2)
    if not wanted:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "latest.json").write_text(text + "\n")
    sys.stdout.write(text + "\n")


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    anyio.run(main, sys.argv[1:], backend_options={"use_uvloop": True})
