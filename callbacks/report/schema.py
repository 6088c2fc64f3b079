"""Version of report.json."""

SCHEMA = 2
