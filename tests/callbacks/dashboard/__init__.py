"""Tests of callbacks/dashboard."""
