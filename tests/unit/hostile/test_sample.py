"""A sample of the table of hostile inputs, of each kind; the whole table is in test_faults.py."""

from itertools import groupby
from pathlib import Path

import pytest

from benchmarks.hostile import annotations, images, runs, tables
from benchmarks.hostile.runner import BAD, Case, _judge
from benchmarks.hostile.template import Template

SAMPLE = 5  # cases of each kind
SLOW = ("GB", "MB", "bomb", "60 million", "zeros", "polygons", "points", "20,000", "deep")
CASES = [
    case
    for module in (annotations, tables, images, runs)
    for case in module.cases(Template(Path("/nonexistent")))
    if not any(word in case.name for word in SLOW)
]


def sample() -> list[Case]:
    """Return a few cases of each kind, spread over the table."""
    found = []
    for _, group in groupby(sorted(CASES, key=lambda case: case.kind), lambda case: case.kind):
        own = list(group)
        found += own[:: max(1, len(own) // SAMPLE)][:SAMPLE]
    return found


@pytest.mark.parametrize("case", sample(), ids=lambda case: f"{case.kind}: {case.name}")
def test_hostile_input_gives_a_sentence_or_the_right_values(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    end, text = _judge(case, case.prepare(tmp_path), tmp_path)
    assert end not in BAD, text
