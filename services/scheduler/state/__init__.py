"""The state the scheduler decides on: a fold of the ledger, indexed."""
