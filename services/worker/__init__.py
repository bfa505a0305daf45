"""The worker: follows its node's subject, runs attempts, reports what became of them."""
