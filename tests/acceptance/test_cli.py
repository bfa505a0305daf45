import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.host import connection
from services.cli.main import COMMANDS

pytestmark = pytest.mark.acceptance

FFRTMP = (sys.executable, "-m", "services.cli.main")
HEAVY = ("anyio", "duckdb", "nats", "pyarrow", "rich", "structlog", "textual", "msgspec")
NOBODY = "nats://127.0.0.1:1"


def ffrtmp(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FFRTMP, *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from services.cli.main import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "finally:\n"
        f"    print(sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help_that_needs_no_server(command: str) -> None:
    done = ffrtmp(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: " in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str) -> None:
    done = ffrtmp("completion", shell)
    assert done.returncode == 0
    assert "_FFRTMP_COMPLETE" in done.stdout


def test_the_version_is_the_projects() -> None:
    assert ffrtmp("--version").stdout.startswith("ffrtmp 0.")


def test_an_unknown_command_is_status_two() -> None:
    done = ffrtmp("dance")
    assert done.returncode == 2
    assert "No such command 'dance'" in done.stderr


def test_a_command_with_a_typo_names_the_one_that_is_meant() -> None:
    assert "No such command 'job'. Did you mean 'jobs'?" in ffrtmp("job", "list").stderr


def test_a_fleet_that_does_not_answer_is_status_four_in_one_line() -> None:
    done = ffrtmp("--nats", NOBODY, "jobs", "status", "j1")
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("ffrtmp: ")


def test_a_fleet_that_is_not_there_leaves_stdout_empty_and_says_where_it_was_sought(
    tmp_path: Path,
) -> None:
    done = ffrtmp("--data-dir", str(tmp_path), "--nats", NOBODY, "jobs", "list", "-o", "json")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.endswith("; it was given by --nats or FFRTMP_NATS\n")
    note = connection.Connection(url=NOBODY, pid=7)
    with connection.noted(tmp_path, note):
        noted = ffrtmp("--data-dir", str(tmp_path), "jobs", "list", "-o", "json")
    assert (noted.returncode, noted.stdout) == (4, "")
    assert noted.stderr.endswith(
        f"; `ffrtmp up`, pid 7, was to run it in {tmp_path}: start it again\n"
    )


@pytest.mark.parametrize("wrong", ["--data-dir", "--output-root", "--media-root"])
def test_a_directory_that_cannot_be_used_is_status_two_and_names_the_setting(
    tmp_path: Path, wrong: str
) -> None:
    taken = tmp_path / "file"
    taken.touch()
    place = {"--data-dir": tmp_path / "data", wrong: taken / "below"}
    data_dir = ("--data-dir", str(place.pop("--data-dir")))
    done = ffrtmp(*data_dir, "up", *(str(part) for pair in place.items() for part in pair))
    setting = wrong.removeprefix("--").replace("-", "_")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"ffrtmp: {setting}: ")
    assert f"given: {taken / 'below'}; allowed: " in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_choice_names_what_is_allowed(tmp_path: Path) -> None:
    done = ffrtmp("--data-dir", str(tmp_path), "up", "--durability", "never")
    assert done.returncode == 2
    assert done.stderr.endswith("given: 'never' by --durability; allowed: 100ms, always\n")


def test_a_wrong_setting_is_status_two_and_names_the_setting(tmp_path: Path) -> None:
    done = ffrtmp("--data-dir", str(tmp_path), "worker", FFRTMP_SLOTS="none")
    assert done.returncode == 2
    assert done.stderr.startswith("ffrtmp: slots: ")
    assert "given: 'none' by FFRTMP_SLOTS; allowed: a whole number from 1 to 4096" in done.stderr


def test_a_setting_comes_from_the_file_too(tmp_path: Path) -> None:
    config = tmp_path / "ffrtmp.toml"
    config.write_text("[scheduler]\nnode_dead = 3\n")
    done = ffrtmp("--config", str(config), "scheduler")
    assert done.returncode == 2
    assert done.stderr.startswith("ffrtmp: [scheduler] node_dead: unknown setting; allowed: ")


def test_a_second_up_is_refused_by_the_name_of_the_first(tmp_path: Path) -> None:
    with connection.locked(tmp_path):
        done = ffrtmp("--data-dir", str(tmp_path), "up")
    assert done.returncode == 1
    assert done.stderr == (
        f"ffrtmp: {tmp_path} is in use by `ffrtmp up`, pid {os.getpid()}; stop it, or give "
        "another --data-dir\n"
    )


def test_a_running_up_is_found_through_its_data_directory(tmp_path: Path) -> None:
    note = connection.Connection(url=NOBODY, pid=os.getpid())
    with connection.noted(tmp_path, note):
        assert connection.read(tmp_path) == note
        assert (tmp_path / "connection.json").stat().st_mode & 0o777 == 0o600
    assert connection.read(tmp_path) is None


def test_a_reader_that_goes_away_ends_it_without_a_word() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*FFRTMP, "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_control_c_ends_a_submission_that_waits_for_its_input() -> None:
    code = (
        "from pathlib import Path\n"
        "from services.cli.invocation import Invocation\n"
        "from services.cli.main import main\n"
        "from tests.unit.cli_fleet import Recorder, connected\n"
        "fleet = Invocation(data_dir=Path('/'), connect=connected(Recorder()), environment={})\n"
        "main(['jobs', 'submit', '--file', '-'], obj=fleet)\n"
    )
    command = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert command.stdin is not None
    assert command.stderr is not None
    try:
        command.stdin.write(b"x\n")
        command.stdin.flush()
        assert command.stderr.readline().startswith(b"ffrtmp: refused: line 1: ")
        command.send_signal(signal.SIGINT)
        assert command.wait(timeout=10) == 130
        assert command.stderr.read().strip() == b""
    finally:
        command.kill()
        command.wait()
        command.stdin.close()
        command.stderr.close()


def test_control_c_is_status_130_without_a_traceback() -> None:
    command = subprocess.Popen(
        [*FFRTMP, "jobs", "submit", "--file", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "FFRTMP_NATS": NOBODY, "PYTHONUNBUFFERED": "1"},
    )
    assert command.stderr is not None
    try:
        command.wait(timeout=1.5)
    except subprocess.TimeoutExpired:
        command.send_signal(signal.SIGINT)
    _, said = command.communicate(timeout=20)
    assert command.returncode == 130
    assert "Traceback" not in said
