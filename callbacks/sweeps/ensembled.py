"""What the page says of an ensemble: whose networks answer together, where the rule is from, and what each of them scores alone."""

from typing import Any

from lightning import LightningModule, Trainer

from callbacks.comparison.finished import get_score
from callbacks.report.section import Section, Table
from callbacks.report.showing import ReportContributor
from callbacks.report.table import format_number
from callbacks.rule_search import ThresholdSearchCallback
from callbacks.sweeps.ensembling import FoldEnsemble
from callbacks.sweeps.matrix import mean_and_sd
from datamodules.refusal import UserError
from lightning_modules.evaluated import EvaluatedModule
from lightning_modules.supervised import SupervisedModule

RULE_SOURCE = "rule from out-of-fold evidence of single networks"


class EnsembleReport(ReportContributor):
    """Finds the rule on what single networks said of images that they had not seen, because val is what the other networks learned from.

    Args:
        ensemble: Whose networks the module holds.
        flip: Whether each also looks at the mirrored image.
    """

    def __init__(self, ensemble: FoldEnsemble, flip: bool) -> None:
        self.ensemble = ensemble
        self.flip = flip

    def find_rule(self, trainer: Trainer, module: SupervisedModule) -> None:
        """By the search that would else look at val.

        Raises:
            Refusal: the networks were of another kind or of other classes, or no threshold keeps
                the bounds.
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
        module.rule.numbers = search.search_rule(evidence)
        if evidence.kind == "label" and not bool(
            module.rule.numbers[:, 2].all()
        ):  # the bounds that were asked for are not kept
            missed = next(found["warning"] for found in search.found if found["warning"])
            raise UserError(
                f"{named}, searched on the out-of-fold evidence of all folds: {missed}; lower"
                " callbacks.threshold_search.min_metrics"
            )
        search.found = [
            found | {"objective": f"{found['objective']}; {RULE_SOURCE}"} for found in search.found
        ]
        if trainer.is_global_zero:
            print(f"{len(self.ensemble.members)} networks together; {RULE_SOURCE}")

    def section(self, trainer: Trainer, pl_module: LightningModule) -> Section:
        """Sentences, and the members."""
        fits, seeds = self.ensemble.members, len({fit.seed for fit in self.ensemble.members})
        said = [
            f"The mean of the probabilities of {len(fits)} networks: {len(fits) // seeds} folds of"
            f" {seeds} seed{'s' * (seeds > 1)}."
        ]
        said += (
            ["Each of them also looks at the mirrored image; the rule is of unmirrored ones."]
            if self.flip
            else []
        )
        legend = (
            f"{RULE_SOURCE.capitalize()}: the val of one network is what the others learned from, so all"
            " together have no honest val score, and no rule that could be searched on it. The"
            " mean of several is less extreme than one network alone, so its best rule may be"
            " another."
        )
        return Section("Ensemble", legend, messages=said, tables=[self._member_table(pl_module)])

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
        """The members by their folders."""
        return {
            "ensemble": [str(fit.folder) for fit in self.ensemble.members],
            "rule_from": RULE_SOURCE,
        }
