"""The note a running `ffrtmp up` leaves in its data directory, and the lock it holds there."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from services.cli.invocation import CONNECTION_FILE
from services.errors import ConfigurationError, StoreBusy

LOCK_FILE = "up.lock"


class Connection(Struct, frozen=True, kw_only=True):
    """Where the fleet is."""

    url: str
    """With user and password: whoever reads it may do everything."""
    pid: int
    """Of the `ffrtmp up` that runs it."""


def read(data_dir: Path) -> Connection | None:
    """Return the note in `data_dir`; None: there is none.

    Raises ConfigurationError for one that cannot be read.
    """
    path = data_dir / CONNECTION_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Connection)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"{path}: {error}; remove it, or give --nats") from error


@contextmanager
def noted(data_dir: Path, connection: Connection) -> Generator[None]:
    """Keep the note in `data_dir` while the context lasts; readers see it whole or not at all."""
    path = data_dir / CONNECTION_FILE
    fresh = path.with_suffix(f".{connection.pid}")
    fresh.touch(mode=0o600)
    fresh.write_bytes(msgspec.json.encode(connection))
    fresh.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def locked(data_dir: Path) -> Generator[None]:
    """Own `data_dir` while the context lasts, or until this process is gone.

    Raises StoreBusy naming the process that owns it, ConfigurationError when it cannot be written.
    """
    make_directory(data_dir, "data_dir", mode=0o700)
    try:
        descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable("data_dir", data_dir, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise StoreBusy(
                f"{data_dir} is in use by `ffrtmp up`, pid {owner}; stop it, or give another "
                "--data-dir"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def make_directory(path: Path, setting: str, *, mode: int = 0o777) -> None:
    """Make a directory if it is not there. Raises ConfigurationError naming the setting."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(setting, path, error) from error


def _unusable(setting: str, path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{setting}: {error.strerror}; given: {path}; allowed: a directory that can be written"
    )
