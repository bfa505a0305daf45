"""The log on NATS JetStream: the only adapter that knows asyncio and the wire.

`backbone.open_backbone` is the way in; `streams.ensure_streams` makes what it needs.
"""
