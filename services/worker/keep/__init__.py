"""What a worker keeps: its identity, its room on disk, and what it could not tell yet."""
