"""A worker is who its machine and its work directory are, and only one may use that directory."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.errors import ConfigurationError
from services.worker.keep.identity import IDENTITY_FILE, sole_user

OWNER = """
import sys, time
from pathlib import Path
from services.worker.keep.identity import sole_user
with sole_user(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(600)
"""


def identity(work_dir: Path, machine: str = "m1") -> str:
    machine_id = work_dir.parent / machine
    machine_id.write_text(f"{machine}\n")
    with sole_user(work_dir, machine_ids=(machine_id,)) as fingerprint:
        return fingerprint


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    return path


def test_it_is_the_same_at_every_start(work_dir: Path) -> None:
    first = identity(work_dir)
    assert len(first) == 16
    assert identity(work_dir) == first


def test_another_directory_on_the_same_machine_is_another(work_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert identity(other) != identity(work_dir)


def test_a_copied_directory_on_another_machine_is_another(work_dir: Path) -> None:
    assert identity(work_dir, "m1") != identity(work_dir, "m2")


def test_a_lost_token_is_another(work_dir: Path) -> None:
    first = identity(work_dir)
    (work_dir / IDENTITY_FILE).unlink()
    assert identity(work_dir) != first


def test_a_machine_without_an_id_is_known_by_its_name(work_dir: Path, tmp_path: Path) -> None:
    missing = (tmp_path / "no" / "machine-id",)
    with sole_user(work_dir, machine_ids=missing) as first:
        pass
    with sole_user(work_dir, machine_ids=missing) as second:
        assert second == first


def test_a_second_user_is_refused_until_the_first_is_gone_however_it_went(work_dir: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(work_dir)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert owner.stdout is not None
    with owner.stdout:
        assert owner.stdout.readline() == "mine\n"
        with (
            pytest.raises(ConfigurationError, match=rf"pid {owner.pid}, uses .*--work-dir"),
            sole_user(work_dir),
        ):
            pass
        owner.kill()
        owner.wait()
    with sole_user(work_dir) as fingerprint:
        assert fingerprint


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match=r"work_dir: No such file or directory; given: "),
        sole_user(tmp_path / "missing"),
    ):
        pass
