"""Shared fixtures: small phantom data sets and run.py, called in this process."""

import gc
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

settings.register_profile("quick", deadline=None, max_examples=25)
settings.register_profile("slow", deadline=None, max_examples=200)
os.environ["HF_HUB_OFFLINE"] = "1"  # read once, at import: no test waits for a hub
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # likewise: as many workers as cores

import run  # noqa: E402
from datamodules.phantoms import bone_scan, brain_tumor, chest_xray, pneumothorax  # noqa: E402
from lightning_modules.base import SupervisedModule  # noqa: E402
from tests.factories.distributed import ranks  # noqa: E402
from tests.factories.hub import Hub, serve_hub  # noqa: E402

CALLBACKS = (
    "callbacks=[checkpoint,threshold_search/segmentation,graceful_shutdown,nonfinite_loss,"
    "resources,report]"
)
DEMO = ["trainer.enable_progress_bar=false", "trainer.accelerator=cpu", CALLBACKS]
SMALL = [
    "experiment=unetpp_brain_tumor",
    "image_size=64",
    "evaluation_size=64",
    "datamodule.batch_size=4",
    "module.net={encoder:{name:resnet18,weights:null},encoder_depth:3,decoder_channels:[16,8,8]}",
    "module.optimizer.lr=1e-3",
    *DEMO,
]
LABELS = (
    "callbacks=[checkpoint,threshold_search/classification,graceful_shutdown,nonfinite_loss,"
    "resources,report]"
)
SMALL_LABELS = [
    "experiment=lora_pneumonia",
    "image_size=64",
    "datamodule.cache_size=null",
    "datamodule.batch_size=8",
    "datamodule.seed=0",
    "module.net.encoder.name=tf_efficientnet_lite0",  # whose ImageNet weights are a package
    "module.optimizer.lr=1e-3",
    *DEMO[:2],
    LABELS,
]
STAGES = (
    "callbacks=[checkpoint,curriculum,threshold_search/segmentation,sampling_monitor,graceful_shutdown,nonfinite_loss,resources,"
    "report]"
)
SMALL_PNX = [
    "experiment=curriculum_pnx",
    "image_size=32",
    "evaluation_size=32",
    "datamodule/sampling=natural",
    "datamodule.cls_prob=null",
    "datamodule.cache_size=64",
    "datamodule.seed=0",
    "module.net={encoder:{name:resnet18,weights:null},encoder_depth:3,decoder_channels:[16,8,8]}",
    "module.optimizer.lr=1e-3",
    *DEMO[:2],
    STAGES,
]
SMALL_BONES = [
    "experiment=weak_bone_scan",
    "image_size=[128,64]",
    "datamodule.view=both",
    "datamodule.batch_size=8",
    "datamodule.seed=0",
    "module.net.encoder.name=resnet18",
    "module.net.encoder.weights=null",
    "module.optimizer.lr=1e-3",
    "trainer.max_epochs=1",
    "callbacks.pseudo_labels.heat_maps={method:LayerCAM,layers:[layer2,layer3]}",
    "callbacks.pseudo_labels.boxes={width:12,height:12,min_distance:6}",
    "callbacks.pseudo_labels.quality={min_stability:0.3,min_score:0.0,jitters:1}",
    "callbacks.pseudo_labels.localization.random_networks=1",
    *DEMO[:2],
    "callbacks=[checkpoint,threshold_search/classification,graceful_shutdown,nonfinite_loss,resources,pseudo_labels,report]",
]
NEARLY_ALL = "callbacks.threshold_search.threshold_range=[0.0,0.001]"  # above the threshold
THORAX = {"images": 90, "size": 64, "positive": 0.33, "seed": 3}


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples hypothesis tries."""
    settings.load_profile("slow" if config.option.markexpr == "slow" else "quick")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put whole runs first, mark what needs a browser, and let -m slow repeat property tests.

    A long file that is started last would keep the other process waiting.
    """
    items.sort(key=lambda item: len(item.path.parts))
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
        if config.option.markexpr == "slow" and item.get_closest_marker("hypothesis"):
            item.add_marker("slow")  # with more examples


def pytest_collection_finish() -> None:
    """Take what is imported by now out of garbage collection, which then takes milliseconds."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Give it back, or libraries report their objects as leaked when the process ends."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantom radiographs in the Kaggle layout: 64 patients, 72 pixels."""
    root = tmp_path_factory.mktemp("data") / "chest_xray"
    chest_xray.write(root, patients=64, size=72, seed=3)
    return root


def shared(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object], worker: str
) -> Path:
    """Return a folder that the first worker to need it makes and all workers of a session read."""
    base = factory.getbasetemp() if worker == "master" else factory.getbasetemp().parent
    folder = base / "shared" / name
    folder.parent.mkdir(exist_ok=True)
    with FileLock(f"{folder}.making.lock"):
        if not folder.with_suffix(".done").exists():
            make(folder)
            folder.with_suffix(".done").touch()
    return folder


@pytest.fixture(scope="session")
def bone_scans(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Phantom bone scans of 64 patients, 128 pixels high."""

    def write(root: Path) -> None:
        bone_scan.write(root, patients=64, height=128, uptake=2.0, seed=1)

    return shared(tmp_path_factory, "bone_scan", write, worker_id)


@pytest.fixture(scope="session")
def bone_words(bone_scans: Path) -> list[str]:
    """What trains a small classifier on them."""
    return [
        *SMALL_BONES,
        f"datamodule.root={bone_scans}",
        f"datamodule.true_masks={bone_scans}/masks",
    ]


@pytest.fixture(scope="session")
def bone_chain(
    bone_words: list[str], tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Path:
    """Run folder of the whole chain, nearly every image above the threshold; cache beside it."""

    def train(folder: Path) -> None:
        words = [*bone_words, NEARLY_ALL, "trainer.precision=32-true"]
        ranks(1, [*words, f"paths.cache={folder / 'cache'}"], folder / "run")

    return shared(tmp_path_factory, "bone_chain", train, worker_id) / "run"


@pytest.fixture(scope="session")
def thorax(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantom DICOMs in Kaggle's layout: 90 images of 64 pixels, a third with a pneumothorax."""
    root = tmp_path_factory.mktemp("data") / "pneumothorax"
    pneumothorax.write(root, **THORAX)
    return root


@pytest.fixture(scope="session")
def layouts(tmp_path_factory: pytest.TempPathFactory, thorax: Path) -> dict[str, Path]:
    """The images of `thorax` in all three layouts, by their names."""
    folder = tmp_path_factory.mktemp("layouts")
    for layout in ("png", "tree"):
        pneumothorax.write(folder / layout, layout=layout, **THORAX)
    return {"kaggle": thorax, "png": folder / "png", "tree": folder / "tree"}


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom COCO export with warts: 26 train, 24 valid, 24 test slices of 96 pixels."""
    root = tmp_path_factory.mktemp("data") / "brain"
    brain_tumor.write(root, train=26, valid=24, test=24, size=96, seed=3)
    return root


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture
) -> Callable[..., tuple[int, str]]:
    """Calls `run.py` with words; returns the exit code and what went to stderr."""
    monkeypatch.setenv("MEDICAL_CACHE", str(tmp_path / "cache"))

    def call(*words: str, folder: Path | None = None) -> tuple[int, str]:
        monkeypatch.setattr(
            sys, "argv", ["run.py", *words, f"hydra.run.dir={folder or tmp_path / 'run'}"]
        )
        capfd.readouterr()
        code = 0
        try:
            run.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        gc.collect()  # a trainer and its network refer to each other
        return code, capfd.readouterr().err

    return call


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A server that plays the hub, with an empty local cache."""
    from huggingface_hub import constants

    with serve_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
        yield server


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every training step that is taken."""
    taken, own = [], SupervisedModule.training_step
    monkeypatch.setattr(
        SupervisedModule,
        "training_step",
        lambda self, batch, i: taken.append(i) or own(self, batch, i),
    )
    return taken


def refused(code: int, said: str, steps: list[int], wrong: str, mend: str) -> None:
    """Exit code 2 and one sentence that says what is wrong and the mend, before any step."""
    sentence = said.strip()
    assert code == 2, said
    assert "\n" not in sentence and wrong in sentence and mend in sentence, said
    assert not steps


@pytest.fixture
def refuses_spoilt(cli: Callable, steps: list[int], tmp_path: Path) -> Callable[..., None]:
    """Spoil a copy of a data set and check its refusal; `{root}` in `wrong` is its folder."""

    def look(
        words: list[str], original: Path, spoil: Callable[[Path], object], wrong: str, mend: str
    ) -> None:
        root = tmp_path / "data"
        shutil.copytree(original, root)
        spoil(root)
        before = folder_hash(root)
        code, said = cli(*words, f"datamodule.root={root}")
        refused(code, said, steps, wrong.format(root=root), mend)
        assert folder_hash(root) == before

    return look


def folder_hash(folder: Path) -> str:
    """Changes when a name or a byte below the folder changes, or the folder comes or goes."""
    digest = hashlib.sha256(str(folder.exists()).encode())
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()
