"""Tests of pretrained weights: where they come from, how they are read and fitted."""
