"""What this machine is made of and how busy it is; a sensor that is missing tells nothing.

No GPU, no driver, a GPU that fell off the bus: all are normal. `gpustat` sleeps about 100 ms a GPU
to measure, so everything here that reads runs in a thread.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol, cast

import anyio
import gpustat
import psutil
import pynvml
from anyio import to_thread
from msgspec import Struct

from events.node import Gpu, Hardware
from events.telemetry import GpuLoad
from services.contain import contained
from services.worker.guard.threads import Threads
from services.worker.port import Disk, Load

MIB = 2**20
"""gpustat counts memory in these."""
SENSORS_S = 2.0
"""A heartbeat waits no longer for disks and GPUs."""


class LoadReader:
    """Reads the load again and again; each reading's CPU share counts from the one before."""

    def __init__(self, work_dir: Path, output_root: Path) -> None:
        self._directories = (work_dir, output_root)
        self._cpu = cpu_s()
        self._sensed = _Sensed()
        self._threads = Threads(1)
        """Sensors that hang cost one, and not one more each time."""

    async def read(self) -> Load:
        """Return the load now; takes about 100 ms for each GPU, without holding the loop.

        Disks and GPUs that do not answer within `SENSORS_S` are as they were: a file system that
        hangs must not make the node seem dead.
        """
        busy_s, total_s = cpu_s()
        spent_s = total_s - self._cpu[1]
        percent = 100.0 * (busy_s - self._cpu[0]) / spent_s if spent_s > 0 else 0.0
        self._cpu = (busy_s, total_s)
        await self._look()
        return Load(
            cpu_percent=min(100.0, max(0.0, percent)),
            memory_free_bytes=psutil.virtual_memory().available,
            disk_free_bytes=self._sensed.disks[0].free_bytes if self._sensed.disks else 0,
            disks=self._sensed.disks,
            gpus=self._sensed.gpus,
        )

    async def _look(self) -> None:
        """Read what only a thread can; a sensor whose driver breaks tells what it told before."""
        if self._threads.exhausted:
            return
        with anyio.move_on_after(SENSORS_S):
            self._sensed = await contained(
                partial(self._threads.run, self._sense), lambda _: self._sensed
            )

    def _sense(self) -> "_Sensed":
        return _Sensed(
            tuple(Disk(str(each), _disk(each)[1]) for each in self._directories),
            tuple(gpu_load(gpu, sessions) for gpu, sessions in _query_with_sessions()),
        )


class _Sensed(Struct, frozen=True):
    """What only a thread can read."""

    disks: tuple[Disk, ...] = ()
    gpus: tuple[GpuLoad, ...] = ()


async def read_hardware(work_dir: Path, ffmpeg_version: str) -> Hardware:
    """Return what the machine is made of; sizes that cannot be read are 0."""
    gpus, disk = await to_thread.run_sync(lambda: (_query(), _disk(work_dir)))
    return Hardware(
        hostname=platform.node(),
        cpu_model=await to_thread.run_sync(_cpu_model),
        cpu_threads=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        disk_bytes=disk[0],
        gpus=tuple(gpu_made(gpu) for gpu in gpus),
        ffmpeg=ffmpeg_version,
    )


Reading = Mapping[str, object]
"""One GPU in gpustat's words."""


def gpu_made(gpu: Reading) -> Gpu:
    """Return what a GPU is."""
    return Gpu(
        index=int(_number(gpu, "index") or 0),
        name=str(gpu.get("name") or ""),
        uuid=str(gpu.get("uuid") or ""),
        memory_bytes=int(_number(gpu, "memory.total") or 0) * MIB,
    )


def gpu_load(gpu: Reading, encoder_sessions: int | None = None) -> GpuLoad:
    """Return how busy a GPU is; a lost one tells nothing."""
    utilization = _number(gpu, "utilization.gpu")
    memory = _number(gpu, "memory.used")
    return GpuLoad(
        index=int(_number(gpu, "index") or 0),
        utilization_percent=None if utilization is None else min(100.0, max(0.0, utilization)),
        memory_used_bytes=None if memory is None else int(memory) * MIB,
        temperature_c=_number(gpu, "temperature.gpu"),
        power_w=_number(gpu, "power.draw"),
        encoder_sessions=encoder_sessions,
    )


def _number(gpu: Reading, name: str) -> float | None:
    value = gpu.get(name)
    return float(value) if isinstance(value, int | float) else None


class _Card(Protocol):
    """The part of `gpustat.GPUStat` that is read; gpustat ships no types."""

    entry: Reading


class _Nvml(Protocol):
    """The part of `pynvml` that is asked beside gpustat; its parameters have no types."""

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object: ...  # noqa: N802 - NVIDIA's
    def nvmlDeviceGetEncoderStats(  # noqa: N802 - NVIDIA's
        self, handle: object
    ) -> tuple[int, int, int]: ...


def _query() -> Sequence[Reading]:
    """Return all GPUs; none when there is no driver, or it does not answer."""
    try:
        cards = cast(Sequence[_Card], gpustat.new_query().gpus)
    except pynvml.NVMLError:
        return ()
    return [card.entry for card in cards]


def _query_with_sessions() -> list[tuple[Reading, int | None]]:
    """Return all GPUs, each with the hardware encodes that run on it."""
    readings = _query()
    if not readings:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return [(reading, None) for reading in readings]
    try:
        return [(each, _sessions(int(_number(each, "index") or 0))) for each in readings]
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _sessions(index: int) -> int | None:
    """Return how many hardware encodes run on a GPU; None: its driver does not tell.

    Source: NVML, nvmlDeviceGetEncoderStats; gpustat does not ask for it.
    """
    nvml = cast(_Nvml, pynvml)
    try:
        return nvml.nvmlDeviceGetEncoderStats(nvml.nvmlDeviceGetHandleByIndex(index))[0]
    except pynvml.NVMLError:
        return None


def cpu_s() -> tuple[float, float]:
    """Return the seconds all CPU threads were busy, and all that have passed for them."""
    times = psutil.cpu_times()
    fields = cast(Mapping[str, float], times._asdict())
    # Linux counts the guests' time a second time within user and nice
    total_s = sum(value for name, value in fields.items() if not name.startswith("guest"))
    idle_s = fields.get("idle", 0.0) + fields.get("iowait", 0.0)
    return total_s - idle_s, total_s


def _disk(work_dir: Path) -> tuple[int, int]:
    """Return size and free bytes of the file system that holds or will hold `work_dir`."""
    for directory in (work_dir, *work_dir.absolute().parents):
        try:
            usage = psutil.disk_usage(str(directory))
        except OSError:
            continue
        return usage.total, usage.free
    return 0, 0


def _cpu_model() -> str:
    """Return the CPU's name as its maker gives it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
