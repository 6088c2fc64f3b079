"""Data sets: files on disk become batches."""
