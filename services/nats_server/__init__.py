"""A real NATS server, started and owned by us: what a single host runs on.

The server holds the lock of its data directory for as long as it lives, also when its owner was
killed; it gets SIGTERM from the kernel when its owner dies. So one store never has two servers.
"""

from services.nats_server.files import Access, ServerSettings
from services.nats_server.server import NatsServer, server_binary

__all__ = [
    "Access",
    "NatsServer",
    "ServerSettings",
    "server_binary",
]
