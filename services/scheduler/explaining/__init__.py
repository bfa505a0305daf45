"""Why a job is where it is, and what must happen next."""
