"""Our generic package names are ours alone, here and in what is built."""

import importlib.metadata
import importlib.util
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
PACKAGES = ("events", "projections", "services", "tui")
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PACKAGES)
def test_the_name_is_imported_from_this_repository(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).is_relative_to(REPO)


@pytest.mark.parametrize("name", PACKAGES)
def test_no_other_distribution_brings_the_name(name: str) -> None:
    owners = set(importlib.metadata.packages_distributions().get(name, []))
    assert owners <= {"ffrtmp"}, f"{owners - {'ffrtmp'}} would overwrite our `{name}`; see ADR 0002"


def test_it_cannot_be_uploaded_by_mistake() -> None:
    assert "Private :: Do Not Upload" in PROJECT["project"]["classifiers"]


def test_the_wheel_has_all_packages_and_no_tests(tmp_path: Path) -> None:
    code = "import sys, hatchling.build as b; b.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=REPO, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == set(PACKAGES)
    kept = {
        path.relative_to(REPO).as_posix()
        for package in PACKAGES
        for pattern in ("*.py", "*.sql", "*.tcss")
        for path in (REPO / package).rglob(pattern)
    }
    assert kept - set(names) == set()
    entry_points = next(name for name in names if name.endswith("entry_points.txt"))
    script = zipfile.ZipFile(wheel).read(entry_points).decode()
    assert "ffrtmp = services.cli.main:main" in script


def test_the_lock_file_pins_every_dependency_and_names_no_host() -> None:
    lock = (REPO / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock
    assert "--index-url" not in lock
    pinned = {line.split("==")[0] for line in lock.splitlines() if "==" in line}
    wanted = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]
    names = {name.split(">")[0].split("[")[0].lower() for name in wanted}
    assert names - pinned == set()
    entries = lock.replace("\\\n", " ").splitlines()
    assert [entry for entry in entries if "==" in entry and "--hash=sha256:" not in entry] == []


def test_python_is_the_one_that_is_asked_for() -> None:
    assert PROJECT["project"]["requires-python"] == ">=3.11"
    assert (REPO / ".python-version").read_text(encoding="utf-8").strip() == "3.11"
    assert sys.version_info >= (3, 11)
