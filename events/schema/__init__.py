"""The vocabulary for other languages: JSON Schema, AsyncAPI and a reference for people.

All of it is made from the structs, their constraints and their docstrings:
`python -m events.schema` writes it to `ops/`, and a test fails when it was not run.
"""
