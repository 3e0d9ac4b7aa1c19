"""What a student must match: one file an objective."""
