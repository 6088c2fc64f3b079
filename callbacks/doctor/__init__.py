"""do=doctor: what this machine has, how fast it is, and what would stop a run on it."""
