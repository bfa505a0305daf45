import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import anyio
import gpustat
import pynvml
import pytest
from gpustat.core import InvalidGPU

from events.node import Gpu
from events.telemetry import GpuLoad
from services.worker import hardware

pytestmark = pytest.mark.anyio

CARD: Mapping[str, object] = {
    "index": 1,
    "uuid": "GPU-1",
    "name": "NVIDIA L4",
    "temperature.gpu": 61,
    "utilization.gpu": 37,
    "power.draw": 55,
    "memory.used": 1024,
    "memory.total": 23034,
}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _no_driver() -> object:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)


def _one_lives_one_is_lost() -> object:
    lost = InvalidGPU(0, "((GPU is lost))", pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST))
    return SimpleNamespace(gpus=[lost, SimpleNamespace(entry=CARD)])


async def test_a_machine_without_a_driver_has_no_gpu_and_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpustat, "new_query", _no_driver)
    got = await hardware.read_hardware(tmp_path / "not" / "yet", "n9.0.2")
    assert (got.gpus, got.ffmpeg) == ((), "n9.0.2")
    assert got.hostname
    assert got.cpu_model
    assert got.cpu_threads >= 1
    assert got.memory_bytes > 64 * hardware.MIB
    assert got.disk_bytes > hardware.MIB


async def test_a_lost_gpu_tells_nothing_and_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpustat, "new_query", _one_lives_one_is_lost)
    made = await hardware.read_hardware(tmp_path, "")
    load = await hardware.LoadReader(tmp_path, tmp_path).read()
    assert made.gpus == (
        Gpu(index=0, name="((GPU is lost))"),
        Gpu(index=1, name="NVIDIA L4", uuid="GPU-1", memory_bytes=23034 * hardware.MIB),
    )
    assert load.gpus == (
        GpuLoad(index=0),
        GpuLoad(
            index=1,
            utilization_percent=37.0,
            memory_used_bytes=1024 * hardware.MIB,
            temperature_c=61.0,
            power_w=55.0,
        ),
    )


def _answers_all(monkeypatch: pytest.MonkeyPatch, sessions: Callable[[object], object]) -> None:
    """Let NVML have a driver whose encoders answer with `sessions`."""

    def handle(index: int) -> object:
        return index

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", handle)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetEncoderStats", sessions)


async def test_hardware_encodes_that_run_are_counted_by_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sessions(handle: object) -> tuple[int, int, int]:
        if handle == 0:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return 3, 60, 1000

    monkeypatch.setattr(gpustat, "new_query", _one_lives_one_is_lost)
    _answers_all(monkeypatch, sessions)
    load = await hardware.LoadReader(tmp_path, tmp_path).read()
    assert [gpu.encoder_sessions for gpu in load.gpus] == [None, 3]


async def test_room_is_told_of_where_it_works_and_where_it_writes(tmp_path: Path) -> None:
    load = await hardware.LoadReader(tmp_path, tmp_path / "not" / "yet").read()
    assert [disk.path for disk in load.disks] == [str(tmp_path), str(tmp_path / "not" / "yet")]
    assert load.disk_free_bytes == load.disks[0].free_bytes > 0
    assert load.disks[1].free_bytes > 0


async def test_a_sensor_that_hangs_delays_no_heartbeat_and_costs_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = hardware.LoadReader(tmp_path, tmp_path)
    first = await reader.read()
    stuck, asked = threading.Event(), [0]

    def hang() -> object:
        asked[0] += 1
        stuck.wait()
        raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)

    monkeypatch.setattr(gpustat, "new_query", hang)
    monkeypatch.setattr(hardware, "SENSORS_S", 0.05)
    try:
        with anyio.fail_after(5):
            later = [await reader.read() for _ in range(5)]
    finally:
        stuck.set()
    assert asked == [1]
    assert [load.disks for load in later] == [first.disks] * 5


async def test_a_sensor_whose_library_breaks_stops_no_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = hardware.LoadReader(tmp_path, tmp_path)
    first = await reader.read()

    def breaks() -> object:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a GPU's name")

    monkeypatch.setattr(gpustat, "new_query", breaks)
    assert (await reader.read()).disks == first.disks


async def test_the_load_is_within_bounds_and_counts_from_the_reading_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([(100.0, 200.0), (103.0, 212.0), (103.0, 212.0)])
    monkeypatch.setattr(hardware, "cpu_s", lambda: next(times))
    reader = hardware.LoadReader(tmp_path, tmp_path)
    first, second = await reader.read(), await reader.read()
    assert (first.cpu_percent, second.cpu_percent) == (25.0, 0.0)
    assert first.memory_free_bytes > 0
    assert first.disk_free_bytes > 0


def test_the_cpu_clock_counts_up_and_is_never_busier_than_it_is_old() -> None:
    busy_s, total_s = hardware.cpu_s()
    assert 0 < busy_s < total_s
