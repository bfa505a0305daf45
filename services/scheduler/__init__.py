"""The scheduler: takes requests in, decides, and gives waiting jobs to free nodes."""
