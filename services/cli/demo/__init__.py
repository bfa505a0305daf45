"""`ffrtmp demo`: the whole system on real video, and proof that it did what was asked."""
