"""Training in stages."""
