"""The DuckDB file: owned by one process, made by numbered SQL, set aside when it does not fit.

A projection is disposable: whatever is wrong with a file, the log makes it anew.
"""

import fcntl
import hashlib
import os
from importlib import resources
from pathlib import Path

import duckdb

from projections.errors import StoreBusy, StoreUnusable

FOLD_VERSION = 2
"""Counts changes of what the rows mean; a file of another version is set aside and made anew."""
WAL_BYTES_MAX = 128 * 2**20
"""The write-ahead log is folded into the file at this size, if idle time has not done so before."""
SPILL_BYTES_MAX = 4 * 2**30
"""Most disk that queries may use beside the file."""
CURSOR_SETTINGS = ("max_execution_time", "operator_memory_limit")
"""What may still be set, per cursor, once the configuration is locked."""

_DIRECTORY_MODE = 0o700
_SQL = resources.files("projections") / "sql"


class Database:
    """One open file; `fresh` when its tables are empty because they were just made.

    `anew` sets a file aside that would fit.
    """

    def __init__(self, path: Path, *, memory_bytes_max: int, anew: bool = False) -> None:
        self._lock = _owned(path)
        try:
            self.connection, self.fresh = _opened(path, anew=anew)
            _configure(self.connection, memory_bytes_max)
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Close the file as it is: what is in its write-ahead log is read at the next opening."""
        self.connection.close()
        os.close(self._lock)


def named_sql(name: str) -> str:
    """Return the text of `sql/<name>`."""
    return (_SQL / name).read_text("utf-8")


def _schema_files() -> list[str]:
    return sorted(file.name for file in _SQL.iterdir() if file.name[:1].isdigit())


def _digest() -> str:
    text = "".join(named_sql(name) for name in _schema_files())
    return hashlib.sha256(text.encode()).hexdigest()


def _owned(path: Path) -> int:
    """Take the lock beside the file; it ends with the process, however that ends.

    DuckDB's own lock is no help inside one process, and a copy of the file would drop it.
    """
    try:
        path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        path.parent.chmod(_DIRECTORY_MODE)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(path, f"{error.strerror}; give it a directory of its own") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(lock, 32).decode("ascii", "replace").strip()
        os.close(lock)
        raise StoreBusy(path, owner) from None
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock


def _opened(path: Path, *, anew: bool) -> tuple[duckdb.DuckDBPyConnection, bool]:
    connection = None if anew else _fitting(path)
    if connection is not None:
        return connection, False
    _set_aside(path)
    connection = duckdb.connect(path)
    _create(connection)
    return connection, True


def _fitting(path: Path) -> duckdb.DuckDBPyConnection | None:
    """Open the file if it is there and of this version; None: it has to be made."""
    if not path.exists():
        return None
    try:
        connection = duckdb.connect(path)
    except duckdb.Error as error:
        if "lock on file" in str(error):
            raise StoreBusy(path, "") from error
        if isinstance(error, duckdb.IOException) and "valid DuckDB" not in str(error):
            raise StoreUnusable(path, str(error)) from error
        return None
    try:
        version = connection.execute("SELECT fold, digest FROM schema_version").fetchall()
    except duckdb.CatalogException:
        version = []
    if version == [(FOLD_VERSION, _digest())]:
        return connection
    connection.close()
    return None


def _set_aside(path: Path) -> None:
    """Rename the file, over the one that was set aside before."""
    for suffix in ("", ".wal"):
        file = Path(f"{path}{suffix}")
        if file.exists():
            file.replace(f"{path}.old{suffix}")


def _create(connection: duckdb.DuckDBPyConnection) -> None:
    connection.begin()
    for name in _schema_files():
        connection.execute(named_sql(name))
    for table in ("jobs_cold", "jobs", "jobs_active", "jobs_done"):
        _copy_comments(connection, table, "jobs_hot")
    _copy_comments(connection, "attempts", "attempts_ended")
    connection.execute("INSERT INTO schema_version VALUES (?, ?)", [FOLD_VERSION, _digest()])
    connection.commit()


def _copy_comments(connection: duckdb.DuckDBPyConnection, table: str, like: str) -> None:
    found = connection.execute(
        "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = ?", [like]
    ).fetchall()
    connection.execute(";".join(_comment(table, column, text) for column, text in found))


def _comment(table: str, column: str, text: str) -> str:
    quoted = text.replace("'", "''")
    return f"COMMENT ON COLUMN {table}.{column} IS '{quoted}'"


def _configure(connection: duckdb.DuckDBPyConnection, memory_bytes_max: int) -> None:
    """Set what holds for every cursor, then lock it."""
    allowed = ", ".join(f"'{name}'" for name in CURSOR_SETTINGS)
    for setting in (
        "TimeZone = 'UTC'",
        f"memory_limit = '{memory_bytes_max} B'",
        f"wal_autocheckpoint = '{WAL_BYTES_MAX} B'",
        f"max_temp_directory_size = '{SPILL_BYTES_MAX} B'",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "python_enable_replacements = false",
        "enable_external_access = false",
        f"allowed_configs = [{allowed}]",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
