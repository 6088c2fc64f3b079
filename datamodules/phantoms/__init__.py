"""Phantoms: synthetic stand-ins for real data, each in its data set's own layout on disk."""
