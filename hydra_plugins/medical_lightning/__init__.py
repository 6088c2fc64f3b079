"""Hydra plugins: the sweeper of studies, and the launcher of trials in separate processes."""
