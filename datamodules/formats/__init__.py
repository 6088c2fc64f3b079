"""File and annotation formats."""
