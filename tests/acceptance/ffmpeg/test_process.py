"""The encoder's process: found, followed, ended, and never left alone."""

# PyAV declares `Packet` generic and then uses it without an argument
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

import errno
import os
import sys
from pathlib import Path

import anyio
import psutil
import pytest

from services.clock import SystemClock
from services.errors import ConfigurationError
from services.worker.ffmpeg.locate import ENVIRONMENT, Ffmpeg, capabilities, locate
from services.worker.ffmpeg.process import (
    HARD_EXIT_S,
    HEAD_LINES_MAX,
    TAIL_LINES_MAX,
    Brake,
    Words,
    bound_to_this_process,
    run,
)
from tests.acceptance.ffmpeg.encoding import (
    WAIT_S,
    children,
    gone,
)
from tests.acceptance.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.acceptance]

GRACE_S = 0.3


async def test_a_flood_of_words_is_followed_without_holding_the_loop_or_the_memory() -> None:
    words = Words()
    turns = 0

    def listen(data: bytes) -> None:
        words.feed(data)

    async def turn() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    with anyio.fail_after(WAIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turn)
            await run(
                ["/bin/sh", "-c", "yes 0123456789 | head -c 11000000 >&2"],
                stdout=lambda _: None,
                stderr=listen,
                grace_s=1.0,
            )
            tasks.cancel_scope.cancel()
    assert turns > 100
    assert words.lines() == ["0123456789"] * (HEAD_LINES_MAX + TAIL_LINES_MAX)


async def test_what_a_process_starts_ends_with_it_and_its_cpu_time_is_its_own() -> None:
    heard = bytearray()
    spin = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
    with anyio.fail_after(WAIT_S):
        ended = await run(
            ["/bin/sh", "-c", f"sleep 600 & echo $!; {spin}; exit 3"],
            stdout=heard.extend,
            stderr=heard.extend,
            grace_s=1.0,
        )
    assert ended.exit_status == 3
    assert 0.01 < ended.cpu_s < 10
    await gone(int(heard))


@pytest.mark.parametrize("descriptors", [True, False])
async def test_a_process_that_ignores_everything_is_killed(
    monkeypatch: pytest.MonkeyPatch, *, descriptors: bool
) -> None:
    def none_left(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    if not descriptors:
        monkeypatch.setattr(os, "pidfd_open", none_left, raising=False)
    begun = anyio.Event()
    script = "trap '' TERM INT HUP; echo begun; while :; do sleep 600; done"

    async def attempt() -> None:
        await run(
            ["/bin/sh", "-c", script],
            stdout=lambda _: begun.set(),
            stderr=lambda _: None,
            grace_s=0.1,
        )

    with anyio.fail_after(WAIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attempt)
            await begun.wait()
            tasks.cancel_scope.cancel()
    assert children() == []


@pytest.mark.parametrize("paused", [False, True])
async def test_a_family_that_ignores_everything_is_gone_within_the_grace(
    paused: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    heard = bytearray()
    begun = anyio.Event()
    brake = Brake(SystemClock())
    deaf = "trap '' TERM INT HUP; while :; do sleep 600; done"
    grandchild = f"({deaf}) & echo $!; {deaf}"

    def listen(data: bytes) -> None:
        heard.extend(data)
        begun.set()

    async def attempt() -> None:
        command = ["/bin/sh", "-c", f"trap '' TERM INT HUP; {grandchild}"]
        await run(command, stdout=listen, stderr=heard.extend, grace_s=GRACE_S, brake=brake)

    asked_s = float("inf")
    family: list[psutil.Process] = []
    with anyio.fail_after(WAIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attempt)
            await begun.wait()
            await until(lambda: sum(line.startswith("sleep ") for line in children()) == 2)
            family = psutil.Process().children(recursive=True)
            if paused:
                brake.engage()
                await until(
                    lambda: {one.status() for one in family} == {psutil.STATUS_STOPPED},
                    deadline_s=WAIT_S,
                )
            asked_s = anyio.current_time()
            tasks.cancel_scope.cancel()
    ladder_s = GRACE_S + HARD_EXIT_S
    assert ladder_s <= anyio.current_time() - asked_s < ladder_s + 3.0  # on a busy machine
    assert int(heard) in {one.pid for one in family}
    for one in family:
        await gone(one.pid)
    assert children() == []


@pytest.mark.parametrize("installed", [True, False])
async def test_an_encode_dies_with_its_worker(
    installed: bool,  # noqa: FBT001 - a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not installed:
        monkeypatch.setenv("PATH", "/none")
    binding = bound_to_this_process.__wrapped__()
    assert binding[0].endswith("/setpriv") == installed
    worker = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:], start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", worker, *binding, "/bin/sleep", "600"]
    async with await anyio.open_process(command) as process:
        assert process.stdout is not None
        orphan = psutil.Process(int(await process.stdout.receive()))
        await until(lambda: orphan.name() == "sleep", deadline_s=WAIT_S)
        process.kill()
    await gone(orphan.pid)


async def test_what_runs_is_found_fast_kept_and_named(
    ffmpeg: Ffmpeg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SystemClock()
    begun_s = clock.monotonic_s()
    assert await locate(tmp_path) == ffmpeg
    assert clock.monotonic_s() - begun_s < 3.0
    monkeypatch.setattr("services.worker.ffmpeg.locate.output_of", None)
    assert await locate(tmp_path) == ffmpeg  # from the cache: nothing was run
    assert set(capabilities(ffmpeg)) >= {
        *("engine:ffmpeg", "engine:noop", "encoder:libx264", "encoder:libvpx-vp9"),
        *("codec:h264", "codec:hevc", "codec:vp9", "codec:av1", "codec:aac", "codec:opus"),
    }


async def test_a_named_ffmpeg_that_does_not_work_is_not_replaced_silently(tmp_path: Path) -> None:
    for named in ("/none/ffmpeg", "/usr/bin/true", "/etc/passwd"):
        with pytest.raises(ConfigurationError, match=f"no working ffmpeg; tried: {named}"):
            await locate(tmp_path, {ENVIRONMENT: named})
