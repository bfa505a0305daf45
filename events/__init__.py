"""The vocabulary: facts, requests and the values inside them.

Import the module that holds the noun (`from events.job import Assigned`); nothing here starts,
reads or writes anything. The tags of facts are a storage format: see `events.codec`.
"""
