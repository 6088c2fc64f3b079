"""Decoded, cached, augmented and letterboxed samples."""
