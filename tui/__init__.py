"""The eyes: how states, times and sizes are shown to people."""
