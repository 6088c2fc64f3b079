"""do=doctor: check this machine's equipment and speed, and what would stop a run on it."""
