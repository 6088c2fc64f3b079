"""Metrics of masks and of labels. Add a metric here."""
