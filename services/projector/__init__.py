"""The projector: follows the streams, keeps the projection, answers questions about it."""
