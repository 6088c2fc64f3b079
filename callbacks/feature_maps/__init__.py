"""Feature maps of a network as pictures."""
