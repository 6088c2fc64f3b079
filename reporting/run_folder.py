"""Read and write the files of a run folder: report, evidence, configuration and outcome.

An unreadable file is named in the error and does not prevent reading other files or runs.
"""

import io
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired

import yaml
from omegaconf import DictConfig, OmegaConf
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    with_config,
)
from typing_extensions import TypedDict

from datamodules.errors import UserError
from datamodules.formats.atomic_write import atomic_write
from datamodules.formats.file_content import plain_sentence, read_json, read_text, shorten
from evaluation.bootstrap import CLASS_MEAN
from evaluation.evidence import Evidence, read_evidence, write_evidence
from reporting.config_diff import SEED_KEYS, config_diff, flatten_config
from reporting.file_io import read_yaml, to_plain, write_json
from reporting.outcome import Outcome, read_outcome
from reporting.ranking import get_monitor

if TYPE_CHECKING:
    import pandas as pd

REPORT_FILE, PAGE_FILE = "report.json", "report.html"
CONFIG_FILE = "config.yaml"  # resolved; a single run has one, a multirun's folder has none
METRICS_FILE, STAGES_FILE = "metrics.csv", "stages.json"
HYDRA_CONFIG = ".hydra/config.yaml"  # with interpolations, as it was composed
OVERRIDES_FILE = ".hydra/overrides.yaml"
SCHEMA = 3
MAX_TITLE = 2000  # letters; a title stands in tables
FOLD_PATTERN = re.compile(r"fold\d+")  # the folder of one fit of several
EVALUATED_SPLITS = ("test", "out_of_fold")  # splits that a page may show first


def _check_date(text: str) -> str:
    """Return a time that `datetime` reads; pages and the leaderboard sort by it."""
    try:
        datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"should be a time such as 2026-11-01T10:00:00+00:00 ({error})") from error
    return text


Number = Annotated[float, Field(allow_inf_nan=False)] | None
Date = Annotated[str, AfterValidator(_check_date)]


@with_config(ConfigDict(extra="allow"))
class ScoreEntry(TypedDict):
    """A score of report.json; further keys are its interval and sample size."""

    value: Number
    low: NotRequired[Number]
    high: NotRequired[Number]


@with_config(ConfigDict(extra="allow"))
class ResourcesEntry(TypedDict, total=False):
    """Cost of a run; further keys are kept."""

    images_per_second: Number
    peak_memory_gb: Number
    train_seconds: Number


class MonitorEntry(TypedDict):
    """The monitored score in a run's configuration."""

    name: NotRequired[str]
    mode: NotRequired[Literal["max", "min"]]


@with_config(ConfigDict(extra="allow"))
class ConfigEntry(TypedDict):
    """Keys of a run's configuration that its readers rely on; further keys are kept."""

    monitor: NotRequired[MonitorEntry | None]
    paths: NotRequired[dict[str, Any] | None]
    fold: NotRequired[int | None]


@with_config(ConfigDict(extra="allow"))
class FoldEntry(TypedDict):
    """A fold that a merged page lists; further keys are kept."""

    page: str


class FitEntry(TypedDict):
    """A fit that a merged page lists; its folder is relative to the page's."""

    fold: int | None
    seed: int
    folder: str


class Report(TypedDict):
    """Keys of report.json that its readers rely on; further keys are kept as they are.

    `title` names the run, `heading` its task and data. `scores` maps split -> class -> score. The
    page shows the `headline_metrics` of the `evaluated_split` first.
    """

    title: Annotated[str, Field(max_length=MAX_TITLE)]
    heading: NotRequired[str]
    schema: NotRequired[int]
    kind: NotRequired[str]
    headline_metrics: NotRequired[list[str]]
    evaluated_split: NotRequired[str]
    finished: NotRequired[Date]
    identity: NotRequired[str]
    commit: NotRequired[str | None]
    scores: NotRequired[dict[str, dict[str, dict[str, ScoreEntry]]]]
    rule: NotRequired[dict[str, dict[str, Any]]]
    data: NotRequired[dict[str, Any]]
    parameters: NotRequired[dict[str, int]]
    resources: NotRequired[ResourcesEntry]
    config: NotRequired[ConfigEntry | None]
    definitions: NotRequired[dict[str, str]]
    units: NotRequired[dict[str, str]]
    folds: NotRequired[list[FoldEntry]]
    fits: NotRequired[list[FitEntry]]
    missing_fits: NotRequired[list[str]]


_REPORT_SCHEMA = TypeAdapter(Report)


class RunFolder:
    """Folder of one run, of merged folds, or of a multirun.

    Properties are read from disk on first use.

    Example:
        >>> run = RunFolder("runs/demo/2026-11-01_10-00-00")  # doctest: +SKIP
        >>> run.score("test", "dice")  # doctest: +SKIP
        0.81

    Args:
        path: The folder; nothing is read yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def outcome(self) -> Outcome | None:
        """Current state of the run; None if it never began or is a multirun.

        Raises:
            UserError: The file is damaged.
        """
        return read_outcome(self.path)

    @property
    def has_report(self) -> bool:
        """True if the folder holds report.json, which a test writes."""
        return (self.path / REPORT_FILE).exists()

    @property
    def page(self) -> Path:
        """Path of report.html, whether or not it was written."""
        return self.path / PAGE_FILE

    @cached_property
    def report(self) -> dict[str, Any]:
        """Contents of report.json, checked against `Report`.

        Raises:
            UserError: The file is missing, damaged, no report, or of a newer version.
        """
        path = self.path / REPORT_FILE
        again = f"test the run again with do=[test] ckpt_path={self.path}"
        if not path.exists():
            raise UserError(
                f"{self.path} holds no {REPORT_FILE}, so it is no finished run; name a run folder,"
                f" or test it with do=[test] ckpt_path={self.path}"
            )
        try:
            content = read_json(path, fix=again)
            _REPORT_SCHEMA.validate_python(content, strict=True)
        except (OSError, ValueError, RecursionError, UserError) as error:
            raise UserError(
                f"{path} is not a report that can be read ({_describe_error(error)}); {again}"
            ) from error
        if content.get("schema", 1) > SCHEMA:
            raise UserError(
                f"{path} is not a report that can be read (it is of version {content['schema']},"
                f" newer than {SCHEMA}: update this repository); {again}"
            )
        return dict(content)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, config.yaml; empty if missing.

        Raises:
            UserError: The file is damaged.
        """
        return self._read_mapping(CONFIG_FILE)

    @cached_property
    def unresolved_config(self) -> dict[str, Any]:
        """The configuration with its interpolations, as it was composed; empty if missing.

        Raises:
            UserError: The file is damaged.
        """
        return self._read_mapping(HYDRA_CONFIG)

    @cached_property
    def overrides(self) -> list[str]:
        """Overrides that the run was composed from; empty if none were saved.

        Raises:
            UserError: The file is damaged.
        """
        if not (self.path / OVERRIDES_FILE).is_file():
            return []
        found = self._read_yaml(OVERRIDES_FILE)
        if not isinstance(found, list):
            raise UserError(f"{self.path / OVERRIDES_FILE} cannot be read (it holds no list)")
        return [str(word) for word in found]

    @property
    def title(self) -> str:
        """Title of its page."""
        return str(self.report["title"])

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Configuration by dotted keys, without the seeds and the names of this run.

        In place of `auto` stands what pretrained weights it came to.
        """
        found = self.report.get("pretrained_weights")
        auto = "auto" if found is None else "imagenet" if found else None
        return {
            key: auto if value == "auto" and key.endswith(".weights") else value
            for key, value in flatten_config(self.report.get("config")).items()
            if key not in SEED_KEYS
        }

    @property
    def evaluated_split(self) -> str:
        """The split whose scores the page shows first."""
        return str(self.report.get("evaluated_split", "test"))

    @cached_property
    def evidence(self) -> Evidence:
        """Evidence of the evaluated split: test, or of merged folds all images out of fold.

        Raises:
            UserError: It is missing or damaged.
        """
        return self.read_evidence(self.evaluated_split)

    def read_evidence(self, split: str) -> Evidence:
        """Read the evidence of a split.

        Raises:
            UserError: It is missing or damaged.
        """
        return read_evidence(self._evidence_path(split))

    def has_evidence(self, split: str) -> bool:
        """Return whether the evidence of a split was written."""
        return self._evidence_path(split).is_file()

    @property
    def monitor(self) -> tuple[str, str]:
        """Name and mode (`max` or `min`) of the monitored score."""
        return get_monitor(self.report.get("config"), self.evidence.headline_metrics[0])

    def score(self, split: str, name: str) -> float:
        """Return a score of a split; of several classes their mean, NaN if undefined."""
        return get_score(self.report, split, name)

    @property
    def metrics_text(self) -> str:
        """Content of metrics.csv; empty if it is missing.

        A last line without its end is left out: a killed run wrote a part of it, and a part of a
        number is another number.

        Raises:
            UserError: It is no file, too large, or no text.
        """
        path = self.path / METRICS_FILE
        if not path.exists():
            return ""
        text = read_text(path, fix="restore it, or delete it, and the page has no curves")
        return text[: text.rfind("\n") + 1]

    def epochs(self) -> "pd.DataFrame":
        """Return epoch (from 0) -> logged values, without the validation after the fit.

        The table is empty if metrics.csv is missing or nothing was trained.
        """
        import pandas as pd  # half a second, and a leaderboard needs no curves

        try:
            rows = pd.read_csv(io.StringIO(self.metrics_text))
        except pd.errors.EmptyDataError:
            return pd.DataFrame()
        except ValueError as error:  # also pandas' ParserError
            raise UserError(
                f"{self.path / METRICS_FILE} cannot be read as a table ({plain_sentence(error)});"
                " restore it, or delete it, and the page has no curves"
            ) from error
        if "train/loss" not in rows:
            return pd.DataFrame()
        rows = rows[rows["epoch"].isin(rows["epoch"][rows["train/loss"].notna()])]
        # the first value of each column that is not missing
        return rows.astype({"epoch": int}).groupby("epoch").first()

    @property
    def stages(self) -> list[dict[str, Any]]:
        """Stages of a curriculum as stages.json holds them; empty without one."""
        path = self.path / STAGES_FILE
        return read_json(path, fix="delete it") if path.exists() else []

    def checkpoint(self, which: str = "best") -> Path:
        """Return the path of the `best` or `last` checkpoint.

        Raises:
            UserError: There is none.
        """
        return find_checkpoint(str(self.path), which)

    def write_report(self, report: Mapping[str, Any]) -> None:
        """Write report.json; numbers that are not finite become null."""
        plain = to_plain(report)
        _REPORT_SCHEMA.validate_python(plain, strict=True)
        write_json(plain, self.path / REPORT_FILE)
        self.__dict__.pop("report", None)

    def write_evidence(self, split: str, evidence: Evidence) -> None:
        """Write the evidence of a split."""
        write_evidence(evidence, self._evidence_path(split))
        self.__dict__.pop("evidence", None)

    def write_config(self, config: DictConfig) -> None:
        """Write the resolved configuration, config.yaml."""
        self.path.mkdir(parents=True, exist_ok=True)
        text = OmegaConf.to_yaml(config, resolve=True)
        atomic_write(self.path / CONFIG_FILE, text.encode())
        self.__dict__.pop("config", None)

    def write_composition(self, config: DictConfig, overrides: Sequence[str]) -> None:
        """Write the unresolved configuration and its overrides where Hydra writes its own.

        For a run that Hydra did not start itself, such as one fold of several.
        """
        (self.path / HYDRA_CONFIG).parent.mkdir(parents=True, exist_ok=True)
        text = OmegaConf.to_yaml(config, resolve=False)
        atomic_write(self.path / HYDRA_CONFIG, text.encode())
        text = yaml.safe_dump(list(overrides), allow_unicode=True, width=10**6)
        atomic_write(self.path / OVERRIDES_FILE, text.encode())

    def _evidence_path(self, split: str) -> Path:
        return self.path / "evidence" / f"{split}.npz"

    def _read_mapping(self, name: str) -> dict[str, Any]:
        if not (self.path / name).exists():
            return {}
        found = self._read_yaml(name)
        if not isinstance(found, dict):
            raise UserError(f"{self.path / name} cannot be read (it holds no mapping)")
        return found

    def _read_yaml(self, name: str) -> Any:
        path = self.path / name
        try:
            return read_yaml(path)
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise UserError(f"{path} cannot be read ({_describe_error(error)})") from error


def _describe_error(error: Exception) -> str:
    """Return one line for an error, with the wrong key if it is an error of the schema."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        return shorten(f"{key}: {first['msg']}" if key else str(first["msg"]))
    if isinstance(error, UserError):  # of a reader of files, whose fix is another one
        return str(error).rpartition("; ")[0]
    return plain_sentence(error)


def get_score(report: Mapping[str, Any], split: str, name: str) -> float:
    """Read a score of a report.json, the mean of several classes; NaN if undefined or missing."""
    classes = report["scores"].get(split, {})
    if not classes:
        return float("nan")
    value = overall_scores(classes)[name]["value"]
    return float("nan") if value is None else float(value)


def overall_scores(class_scores: dict[str, Any]) -> dict[str, Any]:
    """Return the scores of the only class, or the mean of several classes."""
    return class_scores.get(CLASS_MEAN, next(iter(class_scores.values())))


def group_by_config(runs: Sequence[RunFolder]) -> dict[str, list[RunFolder]]:
    """Group runs that differ only in their seed; name them by title and, if needed, differences."""
    by_title: dict[str, list[RunFolder]] = {}
    for run in runs:
        by_title.setdefault(run.title, []).append(run)
    names = {}
    for title, same in by_title.items():
        for run, differs in zip(same, config_diff([run.settings for run in same]), strict=True):
            names[id(run)] = f"{title} ({', '.join(differs.values())})" if differs else title
    found: dict[str, list[RunFolder]] = {}
    for run in runs:
        found.setdefault(names[id(run)], []).append(run)
    return found


def find_evaluated_runs(folder: Path) -> list[RunFolder]:
    """List a tested run, or the tested runs of a multirun.

    These are the merged runs over folds of a multirun if it has some, else its trials. Unreadable
    runs are named on stderr and left out.

    Raises:
        UserError: There is no run that can be read.
    """
    own = RunFolder(folder)
    if any(own.has_evidence(split) for split in EVALUATED_SPLITS):
        return [_check_evaluated(own)]
    merged = sorted(path.parents[1] for path in folder.glob("merged/**/evidence/out_of_fold.npz"))
    trials = sorted(path.parent for path in folder.glob(f"*/{REPORT_FILE}"))
    found = []
    for path in merged or trials:
        try:
            found.append(_check_evaluated(RunFolder(path)))
        except UserError as refusal:
            print(f"left out: {refusal}", file=sys.stderr)
    return found or [_check_evaluated(own)]


def _check_evaluated(run: RunFolder) -> RunFolder:
    """Read report and evidence now, so that errors come here."""
    if "scores" not in run.report:
        raise UserError(
            f"{run.path / REPORT_FILE} has no scores; test the run again with do=[test]"
            f" ckpt_path={run.path}"
        )
    _ = run.evidence
    return run


def find_checkpoint(path: str, which: str) -> Path:
    """Find a checkpoint file, given itself or its run folder.

    Args:
        path: A .ckpt file, or a run folder.
        which: `best` or `last`, where a folder is named.

    Raises:
        UserError: there is none.
    """
    place = Path(path).expanduser()
    for what, inside, such in (
        ("a run of several folds", "fold0", "fold0"),
        ("a multirun", "multirun.yaml", "0"),
    ):
        if (place / inside).exists():
            raise UserError(
                f"{place} is {what}, each of them with its own checkpoints; name one of them, such"
                f" as {place / such}"
            )
    if place.is_dir():
        place = place / "checkpoints" / f"{which}.ckpt"
    if not place.is_file():
        raise UserError(
            f"{place} does not exist; name a .ckpt file, or a run folder that holds"
            f" checkpoints/{which}.ckpt"
        )
    return place
