"""How rows lie on disk: the file, the way into it, and the way back into memory."""
