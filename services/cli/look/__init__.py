"""Commands that only look: nodes, SQL, the log."""
