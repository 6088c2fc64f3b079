"""Progress of a curriculum: where its stages began, how good they were, and their best weights."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from callbacks.curriculum.stage import StageConfig
from datamodules.refusal import UserError


@dataclass
class CurriculumState:
    """All that a resumed fit must know.

    Attributes:
        starts: First epoch of every stage that was decided on.
        entered: How many of them the optimizer knows of.
        score: The best score of the running stage, None before its first.
        epoch: When that was.
        worse: Validations since.
        ended: Whether the last stage is over.
        history: Of every stage that was entered, what it asked for and its scores.
    """

    starts: list[int] = field(default_factory=lambda: [0])
    entered: int = 1
    score: float | None = None
    epoch: int | None = None
    worse: int = 0
    ended: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def file(self) -> str:
        """Name of the checkpoint of the running stage's best weights."""
        return f"stage{self.entered - 1}.ckpt"

    def enter_stage(self) -> None:
        """Enter the stage that was decided on last."""
        self.entered = len(self.starts)
        self.score, self.epoch, self.worse = None, None, 0

    def record_stage(self, stage: StageConfig) -> None:
        """Begin the history of a stage that was just entered."""
        if len(self.history) < self.entered:
            self.history.append(
                {
                    "stage": self.entered - 1,
                    "first_epoch": self.starts[-1],
                    "asked": stage.as_dict(),
                    "scores": [],
                }
            )

    def update_best(
        self, epoch: int, score: float | None, mode: str, metrics: dict[str, float]
    ) -> bool:
        """Record an epoch's score; return whether it is the stage's best.

        Args:
            epoch: Which.
            score: The monitored one, None where the epoch was not validated.
            mode: `max` or `min`.
            metrics: All scores of the validation, by name.
        """
        better = score is not None and (
            self.score is None or (score > self.score if mode == "max" else score < self.score)
        )
        if better:
            self.score, self.epoch, self.worse = score, epoch, 0
        elif score is not None:
            self.worse += 1
        self.history[-1]["scores"].append({"epoch": epoch, "score": score, "metrics": metrics})
        self.history[-1]["best"] = {"epoch": self.epoch, "score": self.score}
        return better

    def maybe_advance(self, epoch: int, stages: Sequence[StageConfig]) -> None:
        """Stay in the stage, decide on the next, or end; called at the end of an epoch."""
        stage = stages[self.entered - 1]
        if epoch + 1 < self.starts[-1] + stage.epochs and not (
            stage.patience is not None and self.worse >= stage.patience
        ):
            return
        if self.entered < len(stages):
            self.starts.append(epoch + 1)
        else:
            self.ended = True

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def restore(cls, state: dict[str, Any], stages: Sequence[StageConfig]) -> "CurriculumState":
        """Restore from the values of `as_dict`.

        Raises:
            Refusal: it is of another curriculum, as far as that was trained.
        """
        found = cls(**state)
        asked = [stage.as_dict() for stage in stages[: len(found.history)]]
        if len(found.starts) > len(stages) or [stage["asked"] for stage in found.history] != asked:
            mend = "go on with the same stages, or start from its weights with init_from=..."
            raise UserError(
                f"the checkpoint is of another curriculum in its first {len(found.history)}"
                f" stage(s); {mend}"
            )
        return found

    def copy_stage_checkpoints(self, before: Path, folder: Path) -> None:
        """Copy the best weights of the stages so far into the folder of the resumed run.

        Raises:
            Refusal: those of the running stage are not there.
        """
        if before.resolve() == folder.resolve():
            return
        if self.score is not None and not (before / self.file).is_file():
            missing = before / self.file
            raise UserError(
                f"{missing}, the best weights of the stage to go on with, does not exist; bring it"
                " back, or start with init_from=..."
            )
        _copy_stages(before, folder)


@rank_zero_only
def _copy_stages(before: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in before.glob("stage*.ckpt"):
        shutil.copyfile(path, folder / path.name)
