"""Progress of a prediction on disk, so that one that was interrupted continues where it stopped."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from datamodules.formats.atomic_write import atomic_write
from reporting.prediction_page import PredictedRow

PATTERN = ".progress-*.jsonl"


@dataclass(frozen=True, kw_only=True)
class PredictionRecord:
    """Prediction of one image, without its masks and maps.

    Attributes:
        digest: SHA-256 of the image's file.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        row: Numbers for the page.
        cells: Row of predictions.csv.
        rles: Run lengths of the mask of each class, in the form of submission.csv; empty for
            labels.
        from_color: True if the file is a color image and the network sees gray.
    """

    digest: str
    height: int
    width: int
    row: PredictedRow
    cells: list[Any]
    rles: dict[str, str] = field(default_factory=dict)
    from_color: bool = False

    @property
    def id(self) -> str:
        """Name of the image."""
        return self.row.id

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "PredictionRecord":
        """Make a record from the values of `dataclasses.asdict`."""
        return cls(**values | {"row": PredictedRow(**values["row"])})


class PredictionProgress:
    """Files of the finished images of a prediction, one per process.

    Args:
        folder: Folder of the predictions.
        settings: Everything that the predictions depend on; predictions with other settings are
            not continued.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = json.loads(json.dumps(settings))

    def load(self, digests: Mapping[str, str]) -> dict[str, PredictionRecord]:
        """Load the finished images whose files have not changed since.

        Args:
            digests: SHA-256 of each image's file, by its id.

        Raises:
            UserError: The predictions were made with other settings.
        """
        found: dict[str, PredictionRecord] = {}
        for path in sorted(self.folder.glob(PATTERN)):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
                try:
                    values = json.loads(line)
                except ValueError:  # the line that was being written when the process was killed
                    continue
                if number == 0:
                    self._check_settings(values)
                    continue
                record = PredictionRecord.from_dict(values)
                if digests.get(record.id) == record.digest:
                    found[record.id] = record
        return found

    def _check_settings(self, before: Mapping[str, Any]) -> None:
        changed = [key for key in self.settings if before.get(key) != self.settings[key]]
        if changed:
            key = changed[0]
            raise UserError(
                f"{self.folder} holds an unfinished prediction with other settings ({key} was"
                f" {before.get(key)} and is {self.settings[key]}); repeat its command, or name"
                " another folder with hydra.run.dir"
            )

    def start(self, rank: int, finished: Iterable[PredictionRecord]) -> None:
        """Begin this process's file, with the images that were finished before.

        It takes the place of an earlier one in one step, so that a kill loses no finished image.

        Args:
            rank: Number of the process.
            finished: Finished images; those of all processes belong to the first one.
        """
        self._path = self.folder / f".progress-{rank}.jsonl"
        lines = [json.dumps(self.settings), *(json.dumps(asdict(each)) for each in finished)]
        atomic_write(self._path, ("\n".join(lines) + "\n").encode())

    def add(self, records: Iterable[PredictionRecord]) -> None:
        """Add finished images, whose files are on disk already."""
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(each)) + "\n" for each in records)

    def remove_others(self) -> None:
        """Remove the files of all other processes, whose images this one's holds."""
        for path in self.folder.glob(PATTERN):
            if path != self._path:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the files of all processes."""
        self.remove_others()
        self._path.unlink(missing_ok=True)
