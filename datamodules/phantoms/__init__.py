"""Stand-ins for real data, written in each data set's own layout on disk."""
