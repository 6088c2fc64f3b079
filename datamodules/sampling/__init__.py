"""Sampling of the training images of an epoch."""
