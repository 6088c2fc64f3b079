"""Multiruns: what is swept, how its trials are started, and what they leave together."""
