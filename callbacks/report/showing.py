"""Callbacks that add to the report."""

from abc import abstractmethod
from typing import Any

from lightning import Callback, LightningModule, Trainer

from callbacks.report.section import Section


class ReportContributor(Callback):
    """A callback with a section for the page.

    `Report` asks each of them when a test or a prediction ends, in any order.
    """

    @abstractmethod
    def section(self, trainer: Trainer, pl_module: LightningModule) -> Section | None:
        """Return what the page shows, None for nothing; called on the first process alone."""

    def extra_report_fields(self) -> dict[str, Any]:
        """Return further entries of report.json, by name."""
        return {}
