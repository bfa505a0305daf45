"""What the facts mean now: DuckDB tables folded from the log.

Imports the vocabulary and nothing else of ours.
"""
