import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from services.supervise import (
    Backoff,
    ChildSpec,
    ChildState,
    ChildStatus,
    RotatedLog,
    Supervisor,
    exit_words,
)
from tests.acceptance.waiting import DEADLINE_S, alive, says, until, until_blocking

pytestmark = pytest.mark.acceptance

FAST = Backoff(first_s=0.05, max_s=0.2, healthy_s=10)
POLITE = """
import signal, sys, time
def leave(*_):
    open(sys.argv[1], "a").write(sys.argv[2] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
while True:
    time.sleep(60)
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True:
    time.sleep(60)
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Watch:
    """Collects every change and lets a test await one."""

    def __init__(self) -> None:
        self.changes: list[ChildStatus] = []
        self._changed = anyio.Event()

    def __call__(self, status: ChildStatus) -> None:
        self.changes.append(status)
        self._changed.set()

    async def until(self, holds: Callable[[list[ChildStatus]], bool]) -> None:
        with anyio.fail_after(DEADLINE_S):
            while not holds(self.changes):
                self._changed = anyio.Event()
                await self._changed.wait()


def python(name: str, code: str, *args: str, drain_s: float = 10.0) -> ChildSpec:
    return ChildSpec(name=name, argv=(sys.executable, "-c", code, *args), drain_s=drain_s)


@asynccontextmanager
async def supervised(
    log_dir: Path, *stages: list[ChildSpec], watch: Watch
) -> AsyncGenerator[Supervisor]:
    supervisor = Supervisor(stages, log_dir=log_dir, on_change=watch, backoff=FAST)
    with anyio.fail_after(2 * DEADLINE_S):
        async with anyio.create_task_group() as tasks:
            await tasks.start(supervisor.run)
            yield supervisor
            tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_child_that_crashes_comes_back_after_a_growing_wait(tmp_path: Path) -> None:
    watch = Watch()
    child = python("worker", "print('boom'); raise SystemExit(3)")
    async with supervised(tmp_path, [child], watch=watch):
        await watch.until(lambda seen: sum(s.state == ChildState.BACKING_OFF for s in seen) >= 4)
    crashes = [s for s in watch.changes if s.state is ChildState.BACKING_OFF][:4]
    assert [s.retry_s for s in crashes] == [0.05, 0.1, 0.2, 0.2]
    assert [s.restarts for s in crashes] == [1, 2, 3, 4]
    assert {(s.exit, s.last_lines) for s in crashes} == {("exit status 3", ("boom",))}
    assert (tmp_path / "worker.log").read_text().startswith("boom\nboom\nboom\nboom\n")


@pytest.mark.anyio
async def test_a_killed_child_comes_back_under_another_pid(tmp_path: Path) -> None:
    watch = Watch()
    async with supervised(tmp_path, [python("worker", DEAF, drain_s=0.1)], watch=watch) as group:
        first = group.statuses()[0].pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await watch.until(lambda seen: seen[-1].state is ChildState.RUNNING and len(seen) > 1)
        second = group.statuses()[0].pid
    assert second not in {None, first}
    assert "killed by SIGKILL" in {s.exit for s in watch.changes}


@pytest.mark.anyio
async def test_a_child_started_wrongly_is_given_up_and_says_why(tmp_path: Path) -> None:
    watch = Watch()
    child = python("worker", "print('slots: given: 0'); raise SystemExit(2)")
    async with supervised(tmp_path, [child], watch=watch) as group:
        await watch.until(lambda seen: seen[-1].state is ChildState.GIVEN_UP)
    assert group.statuses()[0].last_lines == ("slots: given: 0",)
    assert group.statuses()[0].state is ChildState.GIVEN_UP


@pytest.mark.anyio
async def test_a_child_that_leaves_in_order_stays_away_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    watch = Watch()
    leaver = ChildSpec(
        name="worker",
        argv=(sys.executable, "-c", "print('drained')"),
        again="ffrtmp worker --node-id n1",
    )
    stays = python("scheduler", DEAF, drain_s=0.1)
    async with supervised(tmp_path, [stays, leaver], watch=watch) as group:
        await watch.until(lambda seen: any(s.state is ChildState.STOPPED for s in seen))
        pid = group.statuses()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await watch.until(lambda seen: seen[-1].restarts == 1 and seen[-1].pid is not None)
        kept, left = group.statuses()
    assert (kept.state, kept.restarts) == (ChildState.RUNNING, 1)
    assert (left.state, left.restarts, left.exit) == (ChildState.STOPPED, 0, "exit status 0")
    assert (left.again, left.last_lines) == ("ffrtmp worker --node-id n1", ("drained",))
    stopped = [status.name for status in watch.changes if status.state is ChildState.STOPPED]
    assert stopped == ["worker", "scheduler"]


@pytest.mark.anyio
async def test_a_child_that_may_not_leave_is_started_again_however_orderly_it_ended(
    tmp_path: Path,
) -> None:
    watch = Watch()
    async with supervised(tmp_path, [python("scheduler", "print('left')")], watch=watch) as group:
        await watch.until(lambda seen: seen[-1].restarts == 2 and seen[-1].pid is not None)
        back = group.statuses()[0]
    assert (back.state, back.exit, back.again) == (ChildState.RUNNING, "exit status 0", "")
    assert back.last_lines == ("left",)


@pytest.mark.anyio
async def test_stages_start_in_order_and_drain_in_reverse(tmp_path: Path) -> None:
    watch, farewells = Watch(), tmp_path / "farewells"
    stages = [
        [python("server", POLITE, str(farewells), "server")],
        [python("scheduler", POLITE, str(farewells), "scheduler")],
        [python("worker", POLITE, str(farewells), "worker")],
    ]
    async with supervised(tmp_path, *stages, watch=watch):
        for name in ("server", "scheduler", "worker"):
            await until(says(tmp_path / f"{name}.log", "ready"))
    started = [s.name for s in watch.changes if s.state is ChildState.RUNNING]
    stopped = [s.name for s in watch.changes if s.state is ChildState.STOPPED]
    assert started == ["server", "scheduler", "worker"]
    assert stopped == ["worker", "scheduler", "server"]
    assert farewells.read_text().split() == ["worker", "scheduler", "server"]


@pytest.mark.anyio
async def test_a_child_that_does_not_leave_in_time_is_killed(tmp_path: Path) -> None:
    watch = Watch()
    async with supervised(tmp_path, [python("worker", DEAF, drain_s=0.2)], watch=watch) as group:
        pid = group.statuses()[0].pid
        await until(says(tmp_path / "worker.log", "ready"))
    assert pid is not None
    assert not alive(pid)
    assert watch.changes[-1].state is ChildState.STOPPED


@pytest.mark.anyio
async def test_what_a_crashed_child_leaves_in_its_session_is_killed_too(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; "
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        "print(p.pid, flush=True); sys.exit(1)"
    )
    watch = Watch()
    async with supervised(tmp_path, [python("worker", code)], watch=watch):
        await watch.until(lambda seen: seen[-1].state is ChildState.BACKING_OFF)
        grandchild = int(watch.changes[-1].last_lines[0])
    await until(lambda: not alive(grandchild))


def test_a_kill_of_the_supervisor_leaves_no_child(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, anyio\n"
        "from pathlib import Path\n"
        "from services.supervise import ChildSpec, Supervisor\n"
        f"child = (sys.executable, '-c', {DEAF!r})\n"
        "stages = [[ChildSpec(name=n, argv=child)] for n in ('a', 'b', 'c')]\n"
        "show = lambda status: print(status.pid, flush=True)\n"
        f"anyio.run(Supervisor(stages, log_dir=Path({str(tmp_path)!r}), on_change=show).run)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert parent.stdout is not None
    children = [int(parent.stdout.readline()) for _ in range(3)]
    for name in ("a", "b", "c"):
        until_blocking(says(tmp_path / f"{name}.log", "ready"))
    assert all(alive(child) for child in children)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until_blocking(lambda: not any(alive(child) for child in children))


def test_a_log_never_takes_more_than_twice_its_limit(tmp_path: Path) -> None:
    log = RotatedLog(tmp_path / "x.log", bytes_max=100)
    for number in range(100):
        log.write(b"%09d\n" % number)
    log.close()
    old, new = (tmp_path / "x.log.1").read_bytes(), (tmp_path / "x.log").read_bytes()
    assert (len(old), len(new)) == (100, 100)
    assert (old + new).endswith(b"000000098\n000000099\n")


def test_exit_statuses_are_told_in_words() -> None:
    assert [exit_words(code) for code in (0, 7, -9, -64, -99)] == [
        "exit status 0",
        "exit status 7",
        "killed by SIGKILL",
        "killed by SIGRTMAX",
        "killed by signal 99",
    ]


SERVICE = """
import sys, anyio
from services import lifecycle
lifecycle.DRAIN_MARGIN_S = 0.3 if float(sys.argv[1]) else 15.0
async def main():
    print("ready", flush=True)
    try:
        await anyio.sleep_forever()
    finally:
        print("draining", flush=True)
        with anyio.CancelScope(shield=True):
            await anyio.sleep(float(sys.argv[1]))
        print("drained", flush=True)
lifecycle.run_until_signalled(main, drain_s=0.2)
"""


WAITING = """
from contextlib import asynccontextmanager
import anyio
from services import lifecycle
@asynccontextmanager
async def within():
    print("waiting", flush=True)
    await anyio.sleep_forever()
    yield
async def main(_):
    print("never", flush=True)
lifecycle.serve_until_signalled(within, main, drain_s=60)
"""


def test_a_signal_ends_a_service_that_still_waits_for_what_it_stands_on() -> None:
    service = subprocess.Popen(
        [sys.executable, "-c", WAITING],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert service.stdout is not None
    with service.stdout:
        assert service.stdout.readline() == "waiting\n"
        service.send_signal(signal.SIGTERM)
        assert (service.wait(DEADLINE_S), service.stdout.read()) == (0, "")


@pytest.mark.parametrize(
    ("drain", "signals", "status", "words"),
    [
        ("0", [signal.SIGTERM], 0, "drained\n"),
        ("0", [signal.SIGINT], 0, "drained\n"),
        ("0", [signal.SIGHUP], 0, "drained\n"),
        ("60", [signal.SIGTERM], -signal.SIGALRM, ""),
        ("60", [signal.SIGTERM, signal.SIGINT], 128 + signal.SIGINT, ""),
    ],
)
def test_the_first_signal_drains_the_second_or_the_deadline_ends(
    drain: str, signals: list[signal.Signals], status: int, words: str
) -> None:
    service = subprocess.Popen(
        [sys.executable, "-c", SERVICE, drain],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert service.stdout is not None
    assert service.stdout.readline() == "ready\n"
    service.send_signal(signals[0])
    assert service.stdout.readline() == "draining\n"
    for number in signals[1:]:
        service.send_signal(number)
    with service.stdout:
        said = service.stdout.read()  # not `communicate`: it passes over what was read ahead
    assert (service.wait(DEADLINE_S), said) == (status, words)
