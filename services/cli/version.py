"""Which version this is, installed or run from its source tree."""

import importlib.metadata
import tomllib
from pathlib import Path

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def version() -> str:
    """Return the version; `+source` marks a source tree that is not installed."""
    try:
        return importlib.metadata.version("ffrtmp")
    except importlib.metadata.PackageNotFoundError:
        project = tomllib.loads(_PROJECT.read_text("utf-8"))["project"]
        return f"{project['version']}+source"
