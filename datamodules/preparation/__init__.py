"""Steps on data alone: crop, export, validate."""
