"""The log: a port, and its two adapters."""
