"""Modules that learn: one net, one loss, one step, and the evidence of an evaluation."""
