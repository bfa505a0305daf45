"""Who this worker is: the fingerprint of its machine and work directory, which only it may use.

The work directory is locked with flock(2): the kernel lets go of it when the process dies, however
it dies, and encoders do not inherit it.
"""

import fcntl
import hashlib
import os
import platform
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from services.clock import NewId, random_id
from services.errors import ConfigurationError

LOCK_FILE = "worker.lock"
IDENTITY_FILE = "identity"
"""Random and made once, so that two work directories of a machine differ, and two containers that
share a machine id."""
MACHINE_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
"""Where Linux keeps the machine's id, see machine-id(5); elsewhere the host's name has to do."""
FINGERPRINT_CHARS = 16
"""64 bits of SHA-256: enough to tell any number of machines apart, short enough to read."""


@contextmanager
def sole_user(
    work_dir: Path, *, machine_ids: Sequence[Path] = MACHINE_IDS, new_id: NewId = random_id
) -> Generator[str]:
    """Own `work_dir`, which exists, while the context lasts; give the worker's fingerprint.

    Raises ConfigurationError when another process owns it or it cannot be written.
    """
    try:
        descriptor = os.open(work_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigurationError(
            f"work_dir: {error.strerror}; given: {work_dir}; allowed: a directory that can be "
            "written"
        ) from error
    try:
        _lock(descriptor, work_dir)
        yield fingerprint(work_dir, machine_ids, new_id)
    finally:
        os.close(descriptor)


def fingerprint(work_dir: Path, machine_ids: Sequence[Path], new_id: NewId) -> str:
    """Return what tells this machine and work directory from all others.

    A copied work directory on another machine has another one; so has a new directory here.
    """
    token = work_dir / IDENTITY_FILE
    known = _text(token)
    if not known:
        known = new_id()
        draft = token.with_name(IDENTITY_FILE + ".new")
        draft.write_text(known)
        draft.replace(token)
    machine = next((text for path in machine_ids if (text := _text(path))), platform.node())
    return hashlib.sha256(f"{machine}\n{known}".encode()).hexdigest()[:FINGERPRINT_CHARS]


def _lock(descriptor: int, work_dir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise ConfigurationError(
            f"work_dir: another worker, pid {owner}, uses {work_dir}; stop it, or give this one "
            "a --work-dir and a --node-id of its own"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def _text(path: Path) -> str:
    """Return what the file holds; empty: nothing, or nothing that can be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
