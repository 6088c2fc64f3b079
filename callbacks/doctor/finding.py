"""Answers of checks: words for the table, values for doctor.json, and findings with a remedy."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import DictConfig

Severity = Literal["stops a run", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        severity: Whether a run would stop by it, or only be slow, cut off from something or at
            risk.
        what: What is wrong, and where.
        mend: What to do about it.
    """

    severity: Severity
    what: str
    mend: str

    @property
    def sentence(self) -> str:
        """The problem and its remedy, in one sentence."""
        return f"{self.what}; {self.mend}"


@dataclass(frozen=True)
class Answer:
    """The result of one check.

    Attributes:
        said: Lines of the table, by their titles.
        known: The same as values for doctor.json: configured paths at most, no other names of
            files, no secrets.
        findings: What is wrong.
    """

    said: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


Check = Callable[[DictConfig], Answer]  # of the resolved configuration


def worst_first(answers: Iterable[Answer]) -> list[Finding]:
    """All findings once, those that stop a run before the others."""
    found = dict.fromkeys(finding for answer in answers for finding in answer.findings)
    return sorted(found, key=lambda finding: finding.severity != "stops a run")


def gigabytes(number: float) -> str:
    """Format a number of bytes."""
    if number < 1e9:
        return f"{number / 1e6:.0f} MB"
    return f"{number / 1e9:.1f} GB" if number < 100e9 else f"{number / 1e9:,.0f} GB"
