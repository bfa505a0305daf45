"""What people ask of jobs that are there, and what they are answered."""
