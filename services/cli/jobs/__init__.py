"""`ffrtmp jobs`."""
