"""A run on W&B: numbers and curves, grouped by sweep or folds; all else needs an explicit key."""
