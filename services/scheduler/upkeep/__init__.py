"""What follows without anybody asking: from facts, silence and the passing of time."""
