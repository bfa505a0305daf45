"""What the facts of one entity amount to: pure folds, the same in every process."""
