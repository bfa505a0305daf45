"""A right that one process at a time has, for as long as it renews it.

It spares schedulers lost races; no fact depends on it, for every append carries its expectation.
"""
