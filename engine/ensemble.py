"""Evaluation of the networks of all folds as one ensemble."""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from omegaconf import DictConfig

from callbacks.report_writer import ReportContributor
from callbacks.threshold_search import ThresholdSearchCallback
from datamodules.errors import UserError
from engine.run_references import ensemble_key
from evaluation.evidence import align_measurements
from lightning_modules.base import EvaluatedModule, SupervisedModule
from reporting.cross_validation import mean_and_sd
from reporting.fold_ensemble import FoldEnsemble, check_members
from reporting.fold_runs import load_fold_runs
from reporting.run_folder import get_score
from reporting.sections import Section, Table
from reporting.tables import format_number


def load_ensemble(cfg: DictConfig) -> FoldEnsemble | None:
    """Load the runs that `ckpt_path` or `init_from` names; None if it names one network.

    Raises:
        UserError: The networks cannot be combined.
    """
    key = ensemble_key(cfg)
    if key is None:
        return None
    folder = Path(str(cfg[key])).expanduser()
    fits = load_fold_runs(folder)
    check_members(fits, folder, key)
    if cfg.average_checkpoints > 1:
        raise UserError(
            f"average_checkpoints={cfg.average_checkpoints} takes several checkpoints of"
            f" one run, and {key}={folder} is {len(fits)} runs; take average_checkpoints=1"
        )
    return FoldEnsemble(folder, key, fits)


RULE_SOURCE = "rule from out-of-fold evidence of single networks"


class EnsembleReport(ReportContributor):
    """Callback that finds the rule on out-of-fold evidence of single networks, and reports members.

    Val cannot give the rule, because the other networks were trained on it.

    Args:
        ensemble: Ensemble in the module.
        tta: Test-time augmentation, see `lightning_modules.ensemble.VIEWS`.
    """

    def __init__(self, ensemble: FoldEnsemble, tta: str) -> None:
        self.ensemble = ensemble
        self.tta = tta

    def find_rule(self, trainer: Trainer, module: SupervisedModule) -> None:
        """Search the decision rule on the ensemble's evidence instead of on val.

        Raises:
            UserError: The networks are of another kind or have other classes, or no threshold
                satisfies the bounds.
        """
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        search = next(each for each in callbacks if isinstance(each, ThresholdSearchCallback))
        evidence, named = self.ensemble.evidence, f"{self.ensemble.key}={self.ensemble.folder}"
        if (
            not isinstance(module, EvaluatedModule)
            or not isinstance(evidence, search.kind)
            or evidence.classes != module.classes
        ):
            raise UserError(
                f"{named} tells apart {list(evidence.classes)} by {evidence.kind}s, and this run"
                " does not; name folds of this experiment"
            )
        if getattr(evidence, "exclusive", False) != getattr(module, "exclusive", False):
            raise UserError(
                f"{named} and this run differ in module.exclusive; name folds of this experiment"
            )
        module.rule.values = search.search_rule(evidence)
        if evidence.kind == "label" and not bool(
            module.rule.values[:, 2].all()
        ):  # the requested bounds are not satisfied
            missed = next(found["warning"] for found in search.found if found["warning"])
            raise UserError(
                f"{named}, searched on the out-of-fold evidence of all folds: {missed}; lower"
                " callbacks.threshold_search.min_metrics"
            )
        if not getattr(evidence, "exclusive", False):
            search.found = [
                found | {"objective": f"{found['objective']}; {RULE_SOURCE}"}
                for found in search.found
            ]
        if trainer.is_global_zero:
            print(f"{len(self.ensemble.members)} networks together; {RULE_SOURCE}")

    def section(self, trainer: Trainer, pl_module: LightningModule) -> Section:
        """Build the section with a description and the table of members."""
        fits, seeds = self.ensemble.members, len({fit.seed for fit in self.ensemble.members})
        message = [
            f"The mean of the probabilities of {len(fits)} networks: {len(fits) // seeds} folds of"
            f" {seeds} seed{'s' * (seeds > 1)}."
        ]
        message += (
            [
                f"Each of them also sees mirrored or turned images (tta={self.tta}); the rule is"
                " that of single images."
            ]
            if self.tta != "none"
            else []
        )
        legend = (
            f"{RULE_SOURCE.capitalize()}: the val images of one network are training images of the"
            " others, so the ensemble has no unbiased val score, and no rule can be searched on"
            " val."
            " The mean of several networks is less extreme than one network, so its best rule may"
            " differ."
        )
        return Section("Ensemble", legend, messages=message, tables=[self._member_table(pl_module)])

    def _member_table(self, module: LightningModule) -> Table:
        evidence = module.evidence.get("test") if isinstance(module, EvaluatedModule) else None
        heads = (
            evidence.headline_metrics
            if evidence is not None
            else next(iter(self.ensemble.members[0].evidence.values())).headline_metrics
        )
        same = evidence is not None and all(
            "test" in f.evidence and f.evidence["test"].identity == evidence.identity
            for f in self.ensemble.members
        )
        if same and evidence is not None:  # only what every member measured in the same way
            tests = [evidence, *(fit.evidence["test"] for fit in self.ensemble.members)]
            heads = align_measurements(tests)[0].headline_metrics
        scores = [
            [get_score(fit.report, "test", name) for name in heads] if same else []
            for fit in self.ensemble.members
        ]
        rows = [
            [fit.name, *map(format_number, values), str(fit.folder)]
            for fit, values in zip(self.ensemble.members, scores, strict=True)
        ]
        if same and len(rows) > 1:
            means = [
                f"{format_number(of['mean'])} ± {format_number(of['sd'])}"
                for of in map(mean_and_sd, zip(*scores, strict=True))
            ]
            rows.append(["mean ± sd", *means, ""])
        names = [f"test {name.replace('_', ' ')}" for name in heads] if same else []
        return Table("Each network alone, at its own rule", ["network", *names, "folder"], rows)

    def extra_report_fields(self) -> dict[str, Any]:
        """Return the members' folders and the origin of the rule."""
        return {
            "ensemble": [str(fit.folder) for fit in self.ensemble.members],
            "rule_from": RULE_SOURCE,
        }
