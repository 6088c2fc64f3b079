"""Results of checks: text for the table, values for doctor.json, and issues with their fix."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import DictConfig

Severity = Literal["stops a run", "warning"]


@dataclass(frozen=True)
class Issue:
    """Problem that a check found.

    Attributes:
        severity: `stops a run`, or `warning` if a run would only be slow, isolated or at risk.
        problem: Description of the problem and its place.
        fix: Instruction that fixes it.
    """

    severity: Severity
    problem: str
    fix: str

    @property
    def message(self) -> str:
        """Problem and fix in one sentence."""
        return f"{self.problem}; {self.fix}"


@dataclass(frozen=True)
class CheckResult:
    """Result of one check.

    Attributes:
        summary: Lines of the table by their titles.
        values: The same as values for doctor.json, which hold no secrets and no file names but
            configured paths.
        issues: The problems found.
    """

    summary: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    issues: tuple[Issue, ...] = ()


Check = Callable[[DictConfig], CheckResult]  # takes the resolved configuration


def sort_by_severity(answers: Iterable[CheckResult]) -> list[Issue]:
    """Return all issues without repetitions; those that stop a run come first."""
    found = dict.fromkeys(finding for answer in answers for finding in answer.issues)
    return sorted(found, key=lambda finding: finding.severity != "stops a run")


def format_gigabytes(number: float) -> str:
    """Format a number of bytes."""
    if number < 1e9:
        return f"{number / 1e6:.0f} MB"
    return f"{number / 1e9:.1f} GB" if number < 100e9 else f"{number / 1e9:,.0f} GB"
