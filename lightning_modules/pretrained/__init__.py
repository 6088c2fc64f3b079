"""Pretrained weights: where they come from, how they are read, and how a network takes them."""
