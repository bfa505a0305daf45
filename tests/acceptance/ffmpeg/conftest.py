"""Fixtures of the executor's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.worker.ffmpeg.locate import Ffmpeg, locate
from tests.acceptance.ffmpeg.encoding import Bench, children


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def ffmpeg(tmp_path_factory: pytest.TempPathFactory) -> Ffmpeg:
    return await locate(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def bench(tmp_path: Path, ffmpeg: Ffmpeg) -> Iterator[Bench]:
    yield Bench(tmp_path, ffmpeg)
    assert children() == []
