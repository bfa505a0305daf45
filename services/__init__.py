"""The processes: scheduler, worker, projector, command line; and the ports they stand on."""
