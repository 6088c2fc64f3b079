"""Tests of the page: what it embeds, and what a browser makes of it."""
