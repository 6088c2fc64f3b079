"""Ground floor: files on disk become batches."""
