"""What the server's directory holds: credentials, configuration, and how to connect."""

import os
import secrets
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from events import subjects

PAYLOAD_BYTES_MAX = 2**20
LOG_BYTES_MAX = 16 * 2**20
LOG_LINES_MAX = 50
"""How far back in the log a fatal line may be."""
ACCOUNT = "FFRTMP"


class ServerSettings(Struct, frozen=True, kw_only=True):
    """How the owned server runs."""

    data_dir: Path
    """Store, configuration, log, credentials and lock; made with mode 0700."""
    durability: Literal["always", "100ms"] = "100ms"
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """0: the one used before, if it is free, else any free one."""
    store_bytes_max: Annotated[int, Meta(ge=2**20)] = 64 * 2**30
    memory_bytes: Annotated[int, Meta(ge=64 * 2**20)] = 2**30
    """Where the server's garbage collector starts to work hard; not a hard limit."""


class Access(Struct, frozen=True):
    """How to reach the server: the content of `connection.json`."""

    url: str
    """With user and password: whoever reads it may do everything."""
    monitoring_url: str
    pid: int


class Credentials(Struct, frozen=True):
    """The server's name and secrets, kept for as long as its directory: clients outlive it."""

    server_name: str
    user: str
    password: str
    system_password: str


def kept_credentials(path: Path) -> Credentials:
    """Return the credentials in the file at `path`, made on the first start."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except FileNotFoundError:
        fresh = Credentials(
            f"ffrtmp-{secrets.token_hex(4)}",
            "ffrtmp",
            secrets.token_urlsafe(24),
            secrets.token_urlsafe(24),
        )
        write_private(path, msgspec.json.encode(fresh))
        return fresh


def write_private(path: Path, content: bytes) -> None:
    """Replace the file at once, readable by its owner only."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    fresh.replace(path)


def configuration(
    settings: ServerSettings, directory: Path, credentials: Credentials, ports: tuple[int, int]
) -> str:
    """Return the server's configuration file; `ports` are those of clients and of monitoring."""
    return f"""\
server_name: {_quoted(credentials.server_name)}
listen: "127.0.0.1:{ports[0]}"
http: "127.0.0.1:{ports[1]}"
max_payload: {PAYLOAD_BYTES_MAX}
max_connections: 65536
ping_interval: "2s"
ping_max: 2
write_deadline: "10s"
log_file: {_quoted(directory / "nats.log")}
logfile_size_limit: {LOG_BYTES_MAX}
feature_flags {{ js_ack_fc_v2: false }}
jetstream {{
  store_dir: {_quoted(directory / "store")}
  sync_interval: {_quoted(settings.durability)}
  max_file_store: {settings.store_bytes_max}
  max_memory_store: {settings.memory_bytes}
}}
system_account: SYS
accounts {{
  SYS {{
    users: [{{ user: "system", password: {_quoted(credentials.system_password)} }}]
    exports: [
      {{ stream: "$SYS.ACCOUNT.{ACCOUNT}.CONNECT", accounts: ["{ACCOUNT}"] }}
      {{ stream: "$SYS.ACCOUNT.{ACCOUNT}.DISCONNECT", accounts: ["{ACCOUNT}"] }}
    ]
  }}
  {ACCOUNT} {{
    jetstream: enabled
    users: [{{
      user: {_quoted(credentials.user)}, password: {_quoted(credentials.password)}
    }}]
    imports: [
      {{
        stream: {{ account: SYS, subject: "$SYS.ACCOUNT.{ACCOUNT}.CONNECT" }}
        to: "{subjects.CONNECTED}"
      }}
      {{
        stream: {{ account: SYS, subject: "$SYS.ACCOUNT.{ACCOUNT}.DISCONNECT" }}
        to: "{subjects.DISCONNECTED}"
      }}
    ]
  }}
}}
"""


def _quoted(text: str | Path) -> str:
    return msgspec.json.encode(str(text)).decode()


def fatal_line(log: Path) -> str:
    """Return the last thing the server could not live with, in its own words."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return "it left no log"
    fatal = [line for line in lines[-LOG_LINES_MAX:] if "[FTL]" in line]
    return fatal[-1].partition("[FTL]")[2].strip() if fatal else "it does not say why"
