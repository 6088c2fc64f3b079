"""Steps that only process data: crop, export, inspect."""
