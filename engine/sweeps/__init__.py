"""Multiruns: the Optuna sweeper, the process launcher and trials."""
