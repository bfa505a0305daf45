"""Who may import whom: the contracts in pyproject.toml, and what really gets loaded."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
PACKAGES = ("events", "projections", "services", "tui")
CONTRACTS = [
    contract["name"]
    for contract in tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "importlinter"
    ]["contracts"]
]

PLANTED = {
    "Facts at the bottom, hands at the top": ("projections/__init__.py", "import tui.present"),
    "The vocabulary needs nothing but msgspec": ("events/ids.py", "import click"),
    "Deciders know no clock, network or process": (
        "services/scheduler/deciders/job.py",
        "import time",
    ),
    "asyncio and nats stay behind the log and bus adapters": (
        "services/worker/service.py",
        "import asyncio",
    ),
    "DuckDB stays in projections": ("services/worker/service.py", "import duckdb"),
    "Only services.cli composes": (
        "services/worker/service.py",
        "import services.log.jetstream.backbone",
    ),
}
"""For each contract, an import that breaks it."""

EDGES = {"duckdb", "nats", "pyarrow", "textual"}
GUARDS = {
    "events.codec": EDGES | {"anyio", "asyncio", "click", "rich", "services"},
    "events.requests": EDGES | {"anyio", "asyncio", "click", "rich", "services"},
    "events.schema.publish": EDGES | {"anyio", "asyncio", "click", "rich", "services"},
    "events.state.job": EDGES | {"anyio", "asyncio", "services"},
    "events.state.node": EDGES | {"anyio", "asyncio", "services"},
    "projections.fold.world": EDGES | {"anyio", "services", "tui"},
    "projections.read": {"nats", "textual", "services", "tui"},
    "services.cli.main": EDGES,
    "services.scheduler.deciders.job": EDGES | {"anyio", "services.log", "services.bus"},
    "services.scheduler.placement": EDGES | {"anyio", "services.log", "services.bus"},
    "services.scheduler.state.ready": EDGES | {"anyio", "services.log", "services.bus"},
    "services.scheduler.state.rooms": EDGES | {"anyio", "services.log", "services.bus"},
    "services.scheduler.state.world": EDGES | {"anyio", "services.log", "services.bus"},
    "services.scheduler.service": EDGES | {"services.log.jetstream", "services.bus.nats"},
    "services.worker.service": EDGES | {"services.log.jetstream", "services.bus.nats"},
    "services.worker.ffmpeg.argv": EDGES | {"anyio", "services.log", "services.bus"},
    "services.worker.ffmpeg.progress": EDGES | {"anyio", "services.log", "services.bus"},
    "tui.present": EDGES | {"anyio", "services"},
}
"""What importing a module must not bring along: the proof of the contracts at run time."""


def exists(module: str) -> bool:
    return (REPO / module.replace(".", "/")).with_suffix(".py").is_file()


def run_python(*args: str, root: Path = REPO) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, *args],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return run_python("-c", code, "--no-cache", "--no-logo", root=root)


def test_every_contract_is_kept() -> None:
    result = lint_imports(REPO)
    assert result.returncode == 0, result.stdout
    assert [name for name in CONTRACTS if f"{name} KEPT" not in result.stdout] == []


def test_every_contract_can_be_broken(tmp_path: Path) -> None:
    assert PLANTED.keys() == set(CONTRACTS)
    shutil.copy(REPO / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(REPO / package, tmp_path / package)
    for path, line in PLANTED.values():
        with (tmp_path / path).open("a", encoding="utf-8") as module:
            module.write(f"\n{line}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stderr
    assert [name for name in CONTRACTS if f"{name} BROKEN" not in result.stdout] == []


@pytest.mark.parametrize("module", [name for name in GUARDS if exists(name)])
def test_importing_it_loads_nothing_it_must_not_know(module: str) -> None:
    code = f"import sys, {module}; sys.stdout.write(' '.join(sys.modules))"
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr
    loaded = result.stdout.split()
    assert module in loaded
    assert sorted(GUARDS[module].intersection(loaded)) == []


def test_every_module_is_imported_without_a_warning() -> None:
    modules = [
        ".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__")
        for package in PACKAGES
        for path in sorted((REPO / package).rglob("*.py"))
        if path.stem != "__main__"
    ]
    code = f"import importlib\nfor name in {modules!r}: importlib.import_module(name)"
    result = run_python("-W", "error", "-c", code)
    assert result.returncode == 0, result.stderr
    assert len(modules) > 40
