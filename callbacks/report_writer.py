"""Writer of report.json and report.html of a run; other callbacks may add sections to the page."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from callbacks.encoder_freezing import freezes_encoder
from callbacks.resource_monitor import ResourceMonitor
from callbacks.threshold_search import ThresholdSearchCallback
from datamodules.arguments import FilePath, NonNegativeInt, validated
from datamodules.formats.file_hash import hash_file
from evaluation.evidence import Evidence
from lightning_modules.base import EvaluatedModule
from lightning_modules.networks.encoder import count_parameters
from reporting.case_images import render_cases
from reporting.cases import Case
from reporting.live_run import describe_data, describe_devices, identify_data
from reporting.page import write_page, write_predicted
from reporting.report_data import ReportInput, build_report
from reporting.run_folder import RunFolder
from reporting.sections import Section
from reporting.tables import print_table
from reporting.task_view import TASK_VIEWS, page_heading


class ReportContributor(Callback):
    """Base class of callbacks that add a section to the page.

    `ReportWriter` collects the sections when a test or a prediction ends, in any order.
    """

    @abstractmethod
    def section(self, trainer: Trainer, pl_module: LightningModule) -> Section | None:
        """Return the section of the page, or None; called on the first process only."""

    def extra_report_fields(self) -> dict[str, Any]:
        """Return further entries of report.json, by name."""
        return {}


@validated
class ReportWriter(Callback):
    """Callback that writes `evidence/{val,test}.npz`, `report.json` and `report.html`.

    Example:
        callbacks: {report: {run_dir: "${paths.run}", cases: 6}}

    Args:
        run_dir: The run folder.
        title: Name of the run on the page and in comparisons.
        cases: Number of example images of each kind: random, worst, best and so on.

    Raises:
        UserError: `cases` is negative.
    """

    def __init__(self, run_dir: FilePath, title: str, cases: NonNegativeInt = 6) -> None:
        self.run_dir = Path(run_dir)
        self._run = RunFolder(self.run_dir)
        self.title = title
        self.cases = cases
        self.checkpoints: list[Path] = []  # whose weights are evaluated; set by the runner
        self._written: tuple[dict[str, Any], Path] | None = None
        self._results: tuple[dict[str, Any], dict[str, Evidence], list[Case]] | None = None

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report from the evidence; only the example images need the network again."""
        if not isinstance(pl_module, EvaluatedModule):
            raise TypeError("Report needs a module with evidence")
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        for split, evidence in pl_module.evidence.items():
            self._run.write_evidence(split, evidence)
        test = pl_module.evidence["test"]
        pictures = render_cases(
            trainer,
            pl_module,
            TASK_VIEWS[test.kind].select_cases(test, self.cases) if self.cases else [],
        )
        run = ReportInput(
            self.title,
            self.run_dir,
            pl_module.evidence,
            pl_module.rule.as_dict(),
            self._collect_extras(trainer, pl_module),
        )
        self._results = (
            build_report(run, describe_data(trainer.datamodule)),  # type: ignore[attr-defined]
            dict(pl_module.evidence),
            pictures,
        )
        self._written = self._write(trainer, pl_module)

    @property
    def pictures(self) -> list[Case]:
        """The cases of the last test with their panes."""
        return self._results[2] if self._results else []

    def _write(self, trainer: Trainer, module: Any) -> tuple[dict[str, Any], Path] | None:
        """Write report.json and the page, or a page with only sections if there was no test."""
        sections, callbacks, data = (
            self._collect_sections(trainer, module),
            trainer.callbacks,  # type: ignore[attr-defined]
            trainer.datamodule,  # type: ignore[attr-defined]
        )
        if self._results is None:
            if sections:
                about = identify_data(data)
                write_predicted(
                    self.title,
                    page_heading(module.target, module.classes, about),
                    about["phantom"],
                    self.run_dir,
                    sections,
                )
            return None
        found, evidence, pictures = self._results
        for callback in callbacks:
            found |= (
                callback.extra_report_fields() if isinstance(callback, ReportContributor) else {}
            )
        self._run.write_report(found)
        return found, write_page(found, evidence, pictures, self.run_dir, sections)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Add a prediction's sections to the page, and print after the progress bar has closed."""
        if stage == "predict" and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._write(trainer, pl_module)
        if self._written is not None:
            print_table(*self._written)
            self._written = None

    def _collect_extras(self, trainer: Trainer, module: EvaluatedModule) -> dict[str, Any]:
        """Collect the further report fields of the trainer and other callbacks."""
        losses = {split: trainer.callback_metrics.get(f"{split}/loss") for split in module.evidence}
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        trained, total = count_parameters(module.net, freezes_encoder(callbacks))
        known: dict[str, Any] = {
            "loss": {split: float(loss) for split, loss in losses.items() if loss is not None},
            "parameters": {"trainable": trained, "total": total},
            "normalization": module.normalize.as_dict(),
            "pretrained_weights": module.pretrained_weights,
            "training": module.training_description,
            "devices": describe_devices(trainer),
        }
        if self.checkpoints:
            known["checkpoints"] = [
                {"path": str(path), "sha256": hash_file(path)} for path in self.checkpoints
            ]
        for callback in callbacks:
            if isinstance(callback, ResourceMonitor):
                known["resources"] = callback.as_dict()
            if isinstance(callback, ThresholdSearchCallback):
                known["search"] = callback.found
        return known

    def _collect_sections(self, trainer: Trainer, module: LightningModule) -> list[Section]:
        """Return the sections of other callbacks."""
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        contributors = [each for each in callbacks if isinstance(each, ReportContributor)]
        return [
            section
            for callback in contributors
            if (section := callback.section(trainer, module)) is not None
        ]
