"""Callbacks of the Trainer, and the code around runs: reports, comparison, sweeps, doctor."""
