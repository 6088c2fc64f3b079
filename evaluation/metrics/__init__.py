"""Metrics. Add a metric here."""
