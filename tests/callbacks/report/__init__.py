"""Tests of the report page: its embedded data and its behaviour in a browser."""
