"""Answers of checks: words for the table, values for doctor.json, and findings with a remedy."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import DictConfig

Severity = Literal["stops a run", "warning"]


@dataclass(frozen=True)
class Issue:
    """One thing that is wrong.

    Attributes:
        severity: Whether a run would stop by it, or only be slow, cut off from something or at
            risk.
        problem: Description of the problem and its place.
        fix: Instruction that fixes it.
    """

    severity: Severity
    problem: str
    fix: str

    @property
    def message(self) -> str:
        """The problem and its remedy, in one sentence."""
        return f"{self.problem}; {self.fix}"


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        summary: Lines of the table, by their titles.
        values: The same as values for doctor.json: configured paths at most, no other names of
            files, no secrets.
        issues: The problems found.
    """

    summary: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    issues: tuple[Issue, ...] = ()


Check = Callable[[DictConfig], CheckResult]  # of the resolved configuration


def sort_by_severity(answers: Iterable[CheckResult]) -> list[Issue]:
    """All findings once, those that stop a run before the others."""
    found = dict.fromkeys(finding for answer in answers for finding in answer.issues)
    return sorted(found, key=lambda finding: finding.severity != "stops a run")


def format_gigabytes(number: float) -> str:
    """Format a number of bytes."""
    if number < 1e9:
        return f"{number / 1e6:.0f} MB"
    return f"{number / 1e9:.1f} GB" if number < 100e9 else f"{number / 1e9:,.0f} GB"
