"""Which images an epoch shows."""
