"""A small data set and tested runs on it, which the cases copy and damage."""

import contextlib
import importlib
import os
import shutil
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import engine
from reporting.run_folder import RunFolder
from tests.factories.layouts import Drawn, draw, image_mask_folders, save

QUICK = (
    "paths.weights=/nonexistent",
    "image_size=32",
    "module.scheduler=null",
    "datamodule.num_workers=0",
    "datamodule.batch_size=4",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.precision=32-true",
)
CLASSIFIER = (
    "module.net.encoder.name=resnet18",
    "module.net.encoder.weights=null",
    "+module.net.channels=[4,8,8,8]",
    "+module.net.layers=[1,1,1,1]",
)
UNET = (
    "module.net.encoder.name=resnet18",
    "module.net.encoder.weights=null",
    "module.net.encoder_depth=3",
    "module.net.decoder_channels=[8,8,8]",
    "module.measurements.surface_distance=null",
)
MODULES_FILE = "modules.txt"
NAMES = ["lesion", "edema"]  # classes of the drawn masks


@dataclass(frozen=True)
class Template:
    """Folders of the template.

    Attributes:
        folder: Folder of everything.
    """

    folder: Path

    @property
    def films(self) -> Path:
        """Class folders of bright and dark images."""
        return self.folder / "films"

    @property
    def scans(self) -> Path:
        """Images and masks."""
        return self.folder / "scans"

    @property
    def classification(self) -> Path:
        """Run folder of a classification that was trained for one epoch and tested."""
        return self.folder / "runs/classification/trained"

    @property
    def segmentation(self) -> Path:
        """The same of a segmentation."""
        return self.folder / "runs/segmentation/trained"

    def words(self, experiment: str, runs: Path, *more: str) -> list[str]:
        """Return the overrides of a run on the template's data, in a folder of its own."""
        data, net = (
            (self.films, CLASSIFIER)
            if experiment == "classification"
            else (
                self.scans,
                UNET,
            )
        )
        own = [f"datamodule.root={data}", f"paths.runs={runs}", f"paths.cache={self.folder}/cache"]
        return [*QUICK, *net, *own, *more]

    def run(self, experiment: str, runs: Path, *more: str) -> RunFolder:
        """Run an experiment on the template's data."""
        return engine.run(experiment, self.words(experiment, runs, *more))

    def copy_run(self, experiment: str, target: Path) -> Path:
        """Copy a trained run."""
        shutil.copytree(self.folder / "runs" / experiment / "trained", target)
        return target


def small_items(count: int = 24, classes: int = 2) -> list[Drawn]:
    """Return a few drawn images with masks."""
    return draw(count, classes)


def write_template(made: Template) -> None:
    """Write the data, and train and test one run of each task, in a process of its own."""
    rng = np.random.default_rng(0)
    for n in range(40):
        noise = rng.integers(0, 90, (40, 40)) + 120 * (n % 2)
        split = ("train", "val", "test")[0 if n % 10 < 6 else 1 if n % 10 < 8 else 2]
        name = ("normal", "pneumonia")[n % 2]
        save(made.films / split / name / f"{n}.png", noise.astype(np.uint8))
    image_mask_folders(made.scans, draw(24, 1), NAMES[:1])
    in_fork(lambda: _train(made))
    for name in (made.folder / MODULES_FILE).read_text().split():
        with contextlib.suppress(Exception):  # a module may need that others were imported before
            importlib.import_module(name)


def _train(made: Template) -> None:
    for experiment in ("classification", "segmentation"):
        trained = made.folder / "runs" / experiment / "trained"
        made.run(experiment, trained.parents[1], "trainer.max_epochs=1", f"hydra.run.dir={trained}")
        for n, words in enumerate(reference_words(trained)):
            target = made.folder / "reference" / experiment / str(n)
            made.run(experiment, target.parent, *words, f"hydra.run.dir={target}")
    # what a run imports is imported once for all cases
    (made.folder / MODULES_FILE).write_text("\n".join(sys.modules))


def reference_words(trained: Path) -> Sequence[Sequence[str]]:
    """Return the commands of the references: a test, and a fit of one more epoch."""
    test = ("do=[test]", f"ckpt_path={trained}")
    resume = ("do=[fit]", f"ckpt_path={trained}", "trainer.max_epochs=2")
    return test, resume


def in_fork(work) -> None:
    """Call a function in a process of its own, so that this one keeps a single thread.

    Raises:
        RuntimeError: It failed.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("the template could not be made")
