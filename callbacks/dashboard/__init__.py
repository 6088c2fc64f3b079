"""A run on W&B: its numbers and curves, kept in a group with its sweep or folds, and nothing else of it without an explicit key."""
