"""The five streams: what they should be, making them, and telling where they differ.

Configurations are plain JSON against `$JS.API`: the client library's structs drop fields they do
not know. Nothing is ever changed by itself; a stream that exists is compared, and each difference
is told as a value.
"""

from contextlib import AsyncExitStack
from typing import Annotated, Literal, TypeAlias, cast

from msgspec import Meta, Struct

from events import subjects
from services.errors import ConfigurationError
from services.log.jetstream.connection import Connection, connect
from services.log.jetstream.wire import NO_SUCH_STREAM, Fault

LEDGER = "FFRTMP_LEDGER"
TELEMETRY = "FFRTMP_TELEMETRY"
LOGS = "FFRTMP_LOGS"
COMMANDS = "FFRTMP_COMMANDS"
LEASES = "FFRTMP_LEASES"

MESSAGE_BYTES_MAX = 512 * 2**10
"""Largest event, headers included; below the server's limit of 1 MB, which ends connections."""
LEASES_BYTES_MAX = 2**20
HEADERS_BYTES_MAX = 512
"""Room for the headers that guard or identify an event."""

Durability: TypeAlias = Literal["always", "100ms", "cluster"]
"""What an acknowledgement promises: `always`: on disk. `100ms`: on disk within 0.1 s, kept over a
crash of the server process. `cluster`: on disk of two of three servers."""

Bytes: TypeAlias = Annotated[int, Meta(ge=2**20)]
PositiveSeconds: TypeAlias = Annotated[float, Meta(gt=0)]

_DURABILITY = "ffrtmp.durability"
_NS = 1_000_000_000
_REPLICAS: dict[Durability, int] = {"always": 1, "100ms": 1, "cluster": 3}


class StreamSettings(Struct, frozen=True, kw_only=True):
    """Size, age and durability of the streams."""

    durability: Durability = "100ms"
    ledger_bytes_max: Bytes = 16 * 2**30
    """A full ledger refuses new events and loses none: about 50,000,000 events."""
    telemetry_bytes_max: Bytes = 2 * 2**30
    telemetry_s_max: PositiveSeconds = 86_400.0
    logs_bytes_max: Bytes = 4 * 2**30
    logs_s_max: PositiveSeconds = 7 * 86_400.0
    log_chunks_per_attempt_max: Annotated[int, Meta(ge=1)] = 10_000
    """Older chunks of one attempt give way to newer ones."""
    commands_bytes_max: Bytes = 512 * 2**20
    followers_max: Annotated[int, Meta(ge=1)] = 20_000
    """Followers at once; the server's own default of 1,000 would cap the fleet."""


class LogSettings(Struct, frozen=True, kw_only=True):
    """How one process uses one stream."""

    durability: Durability = "100ms"
    hole_free: bool = True
    """Sequences are contiguous: the ledger. Streams that expire have holes."""
    atomic: bool = True
    """The stream takes atomic batches."""
    window: int = 4_096
    """Publishes under way at once."""
    window_bytes: int = 8 * 2**20
    ack_timeout_s: float = 2.0
    """After this a publish without acknowledgement is sent again."""
    silence_s: float = 10.0
    """After this without acknowledgement an append gives up."""
    batch_max: int = 2_000
    """Most events of one batch of a follower."""

    @property
    def group_commit(self) -> bool:
        """Whether single appends go into batches too: one server syncs each publish by itself."""
        return self.atomic and self.durability == "always"


class Drift(Struct, frozen=True):
    """One setting of a stream that exists is not what it should be."""

    stream: str
    field: str
    actual: object
    wanted: object


class StreamState(Struct, frozen=True):
    """How far a stream reaches."""

    first_seq: int = 0
    last_seq: int = 0
    messages: int = 0


class StreamInfo(Struct, frozen=True):
    """A stream as the server describes it."""

    config: dict[str, object] = {}
    state: StreamState = StreamState()
    error: Fault | None = None

    @property
    def durability(self) -> Durability:
        """Return the mode it was made for. Raises ConfigurationError for one nobody knows."""
        metadata = cast(dict[str, str], self.config.get("metadata") or {})
        mode = metadata.get(_DURABILITY)
        if mode not in _REPLICAS:
            raise ConfigurationError(
                f"stream {self.config.get('name')}: metadata {_DURABILITY} is {mode!r}; "
                f"allowed: {', '.join(_REPLICAS)}"
            )
        return mode


def wanted_streams(settings: StreamSettings) -> list[dict[str, object]]:
    """Return the configurations of the five streams."""
    common: dict[str, object] = {
        "storage": "file",
        "num_replicas": _REPLICAS[settings.durability],
        "max_msg_size": MESSAGE_BYTES_MAX,
        "allow_direct": True,
        "metadata": {_DURABILITY: settings.durability},
    }
    # Heartbeats, progress and output are not worth an fsync each.
    quick = {"persist_mode": "async"} if settings.durability == "always" else {}
    return [
        common | _ledger(settings),
        common | _telemetry(settings) | quick,
        common | _logs(settings) | quick,
        common | _commands(settings),
        common | _leases(),
    ]


def _ledger(settings: StreamSettings) -> dict[str, object]:
    return {
        "name": LEDGER,
        "subjects": list(subjects.LEDGER),
        "retention": "limits",
        "discard": "new",
        "max_bytes": settings.ledger_bytes_max,
        "max_consumers": settings.followers_max,
        "compression": "s2",
        "deny_delete": True,
        "allow_atomic": True,
        "duplicate_window": 600 * _NS,
    }


def _telemetry(settings: StreamSettings) -> dict[str, object]:
    return {
        "name": TELEMETRY,
        "subjects": list(subjects.TELEMETRY),
        "retention": "limits",
        "discard": "old",
        "max_age": round(settings.telemetry_s_max * _NS),
        "max_bytes": settings.telemetry_bytes_max,
        "max_consumers": settings.followers_max,
        "compression": "s2",
        "duplicate_window": 60 * _NS,
    }


def _logs(settings: StreamSettings) -> dict[str, object]:
    return {
        "name": LOGS,
        "subjects": list(subjects.LOGS),
        "retention": "limits",
        "discard": "old",
        "max_age": round(settings.logs_s_max * _NS),
        "max_bytes": settings.logs_bytes_max,
        "max_msgs_per_subject": settings.log_chunks_per_attempt_max,
        "max_consumers": settings.followers_max,
        "compression": "s2",
        "duplicate_window": 60 * _NS,
    }


def _commands(settings: StreamSettings) -> dict[str, object]:
    return {
        "name": COMMANDS,
        "subjects": list(subjects.COMMANDS),
        "retention": "workqueue",
        "discard": "new",
        "max_bytes": settings.commands_bytes_max,
        "max_consumers": 100,
        "duplicate_window": 600 * _NS,
    }


def _leases() -> dict[str, object]:
    """Return the stream of leases: on disk, for a lease outlives the server that granted it.

    In memory it would be given anew after a restart, while its old holder still believes in it.
    """
    return {
        "name": LEASES,
        "subjects": list(subjects.LEASES),
        "retention": "limits",
        "discard": "old",
        "max_bytes": LEASES_BYTES_MAX,
        "max_msgs_per_subject": 1,
        "allow_msg_ttl": True,
    }


async def ensure_streams(target: Connection | str, settings: StreamSettings) -> list[Drift]:
    """Make the streams that are missing; return where the others differ from `settings`.

    `target` is a connection or a URL. Raises ConfigurationError when the server refuses one.
    """
    async with AsyncExitStack() as stack:
        if isinstance(target, str):
            target = await stack.enter_async_context(connect(target, name="ffrtmp streams"))
        drifts: list[Drift] = []
        for config in wanted_streams(settings):
            drifts += await _ensure(target, config)
        return drifts


async def stream_info(connection: Connection, stream: str) -> StreamInfo:
    """Return what the server says of `stream`; its `error` tells if there is none."""
    return await connection.api(f"STREAM.INFO.{stream}", None, StreamInfo)


async def _ensure(connection: Connection, config: dict[str, object]) -> list[Drift]:
    name = str(config["name"])
    info = await stream_info(connection, name)
    if info.error is not None and info.error.err_code == NO_SUCH_STREAM:
        info = await connection.api(f"STREAM.CREATE.{name}", config, StreamInfo, timeout_s=20.0)
    if info.error is not None:
        raise ConfigurationError(f"the server refuses stream {name}: {info.error.description}")
    return _differences(name, info.config, config)


def _differences(
    stream: str, actual: dict[str, object], wanted: dict[str, object], prefix: str = ""
) -> list[Drift]:
    drifts: list[Drift] = []
    for field, value in wanted.items():
        found = actual.get(field)
        if isinstance(value, dict):
            inner = cast(dict[str, object], value)
            nested = cast(dict[str, object], found) if isinstance(found, dict) else {}
            drifts += _differences(stream, nested, inner, f"{prefix}{field}.")
        elif found != value:
            drifts.append(Drift(stream, prefix + field, found, value))
    return drifts
