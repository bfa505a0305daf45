"""Talking without remembering: requests answered at once, and the inbox of commands."""
