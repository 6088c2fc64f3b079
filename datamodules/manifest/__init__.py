"""The table of a data set: reading, validation, splitting and leak detection."""
