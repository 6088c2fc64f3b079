"""Tasks of `do`: fit, test and predict of one run or its folds, or a standalone step.

The configuration is checked first. Each task imports what it needs itself, because the import of
PyTorch takes seconds that an error or a leaderboard does not need.
"""

import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from datamodules.data_root import check_root
from datamodules.errors import UserError
from datamodules.sampling.config import SCORES_FILE
from engine.composition import (
    check_chosen_encoder,
    compose_run,
    composed_run,
    remove_foreign_encoder,
    remove_foreign_keys,
)
from engine.config_check import check_arguments, check_curriculum, check_keys, check_loggers
from engine.data_classes import assume_classes, set_known_classes
from engine.hydra_files import restore_hydra_files
from engine.overrides import prepare_overrides
from engine.recomposition import recompose
from engine.resume import find_resume_checkpoint
from engine.run_lock import claim_folder, claim_time
from engine.run_references import (
    PreparedRun,
    ensemble_key,
    is_latest,
    latest_run,
    require_run,
    resolve_checkpoint,
    resolve_run,
    uses_phantoms,
)
from engine.umask import narrow_umask
from engine.user_code import check_user_conf, user_code
from lightning_modules.instantiation import plain_config
from lightning_modules.launch_environment import is_multi_process, rank, shared_run_name
from reporting.commands import PROGRAM, quote_value, to_override
from reporting.outcome import OUTCOME_FILE, Outcome, task_overrides, write_outcome
from reporting.run_folder import REPORT_FILE, RunFolder

RUN_TASKS = ("fit", "test", "predict")  # may be combined, in this order
CROP_OVERRIDES = ("datamodule.mask_column=cropped_mask",)
RUN_REFERENCE_KEYS = (
    "init_from",
    "ckpt_path",
    "datamodule.cls_prob",
    "datamodule.root",
)  # keys that may name another run
PARTS_OF_A_RUN = (OUTCOME_FILE, REPORT_FILE, "metrics.csv", "checkpoints", "evidence", "fold0")
DEMO_SECONDS = {
    "preclassify_pnx": 90,
    "pretrain_chest": 90,
    "weak_bone_scan": 120,
}  # a demo that others need takes about so long on two CPU cores


def run_task(cfg: DictConfig) -> float | None:
    """Run one fit, one per fold, or a standalone step; return the monitored score of a fit."""
    try:
        with user_code(cfg):
            return _run_task(cfg)
    except UserError as refusal:
        if rank() == 0:
            _record_refusal(Path(str(cfg.paths.run)), refusal)
            restore_hydra_files(Path(str(cfg.paths.run)))
        raise


def _record_refusal(folder: Path, refusal: UserError) -> None:
    """Write the reason into a new run folder; one that holds anything of a run is left as it is."""
    if folder.is_dir() and not any((folder / name).exists() for name in PARTS_OF_A_RUN):
        failed = Outcome(status="failed", failure=str(refusal), overrides=task_overrides())
        write_outcome(folder, failed)


def _run_task(cfg: DictConfig) -> float | None:
    if isinstance(cfg.do, str):
        cfg.do = [cfg.do]  # do=doctor is do=[doctor]
    remove_foreign_keys(cfg)
    remove_foreign_encoder(cfg)
    check_chosen_encoder(cfg)
    check_keys(cfg)
    _check_tasks(cfg)
    if cfg.do[0] in STANDALONE_TASKS:
        if is_latest(cfg.datamodule.get("root")):
            cfg.datamodule.root = str(require_run(cfg, "datamodule.root"))
        STANDALONE_TASKS[cfg.do[0]](cfg)
        return None
    check_arguments(cfg)
    check_loggers(cfg)
    check_curriculum(cfg)
    _check_paths(cfg)
    judges = getattr(get_class(cfg.datamodule._target_), "can_validate", True)
    if cfg.do != ["predict"] and not judges:
        raise UserError(
            "a folder of images has no ground truth for training or evaluation; set do=[predict],"
            " or"
            " datamodule=table with masks or labels"
        )
    prepared = _resolve_references(cfg)
    from engine.runner import run_folds
    from reporting.leaderboard import update_leaderboard

    score = run_folds(cfg, judges, prepared)
    if "test" in cfg.do and not cfg.trainer.fast_dev_run and rank() == 0:
        update_leaderboard(Path(cfg.paths.runs), Path(cfg.paths.run))
    return score


def _check_paths(cfg: DictConfig) -> None:
    """Refuse a data folder, a run or a checkpoint that does not exist.

    References by `latest:` are resolved later.
    """
    if "fit" not in cfg.do and not (cfg.ckpt_path or cfg.init_from):
        raise UserError(
            f"do=[{cfg.do[0]}] needs a trained network; name a run folder or a checkpoint with"
            " ckpt_path=..."
        )
    _check_data_root(cfg)
    several = (cfg.folds and cfg.fold is None) or ensemble_key(cfg)  # see run_folds
    if find_resume_checkpoint(cfg) is None and not several:
        for key in ("ckpt_path", "init_from"):
            if not is_latest(cfg[key]):
                resolve_checkpoint(cfg, key)


def _check_data_root(cfg: DictConfig) -> None:
    if cfg.datamodule.get("phantom") is None and not is_latest(cfg.datamodule.root):
        check_root(Path(str(cfg.datamodule.root)).expanduser())


def _run_doctor(cfg: DictConfig) -> None:
    assume_classes(cfg)
    from engine.doctor.doctor import run_doctor

    run_doctor(cfg, Path(cfg.paths.run))


def _compare_runs(cfg: DictConfig) -> None:
    from reporting.comparison import compare_runs
    from reporting.leaderboard import update_leaderboard

    runs = [
        str(resolve_run(run, Path(cfg.paths.runs), "runs", phantom=None)) if is_latest(run) else run
        for run in cfg.runs
    ]
    compare_runs(runs, Path(cfg.paths.run))
    update_leaderboard(Path(cfg.paths.runs), Path(cfg.paths.run))


def _write_wandb_sweep(cfg: DictConfig) -> None:
    from engine.sweeps.wandb_sweep import write_wandb_sweep

    write_wandb_sweep(cfg, Path(cfg.paths.run))


def _lacks_search() -> bool:
    """Return whether this single run was given a space to search, and no value of any of its keys.

    A trial's own command has both: the space, and the values of one trial.
    """
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.RUN:
        return False
    hydra = HydraConfig.get()
    if hydra.runtime.choices.get("hparams_search") is None:
        return False
    set_keys = {word.lstrip("+").partition("=")[0] for word in hydra.overrides.task}
    return not set_keys & set(hydra.sweeper.params)


def _check_tasks(cfg: DictConfig) -> None:
    known = (*RUN_TASKS, *STANDALONE_TASKS)
    unknown = [step for step in cfg.do if step not in known]
    if unknown or not cfg.do:
        raise UserError(
            f"do=[{','.join(unknown)}] is unknown; choose from {', '.join(RUN_TASKS)},"
            f" or one of {', '.join(STANDALONE_TASKS)}"
        )
    if cfg.trainer.overfit_batches and list(cfg.do) != ["fit"]:
        raise UserError(
            f"trainer.overfit_batches={cfg.trainer.overfit_batches} validates on the images that it"
            " trains on, so nothing can be tested after it; take do=[fit], or"
            " trainer.overfit_batches=0"
        )
    if _lacks_search() and cfg.do != ["wandb_sweep"]:
        raise UserError(
            f"hparams_search={HydraConfig.get().runtime.choices['hparams_search']} is searched by"
            " several runs; add -m, or take do=[wandb_sweep] to make a sweep of W&B of it"
        )
    if cfg.fold is not None and not cfg.folds:
        raise UserError(f"fold={cfg.fold} needs the number of folds; set folds=5, or remove fold")
    if len(cfg.do) > 1 and list(cfg.do) != [step for step in RUN_TASKS if step in cfg.do]:
        alone = [step for step in cfg.do if step in STANDALONE_TASKS]
        message = f"{alone[0]} cannot be combined" if alone else "this order is not possible"
        raise UserError(
            f"do=[{','.join(cfg.do)}]: {message}; set do=[{alone[0] if alone else 'fit,test'}]"
        )


def _run_data_task(cfg: DictConfig) -> None:
    """Run a task that needs the data set but no network."""
    check_arguments(cfg.datamodule)
    _check_data_root(cfg)
    from datamodules.preparation.crop import crop_dataset
    from datamodules.preparation.export import META_FILE, export_dataset
    from datamodules.preparation.inspect import check_dataset
    from engine.own_config import check_name, write_own_config
    from engine.runner import prepare_process, save_config
    from lightning_modules.instantiation import instantiate_config
    from reporting.data_page import inspect_dataset

    # probabilities are written if known; only training needs them
    if is_latest(cfg.datamodule.cls_prob):
        found = latest_run(
            cfg.datamodule.cls_prob[7:],
            Path(cfg.paths.runs),
            cfg.datamodule.phantom is not None,
            SCORES_FILE,
        )
        cfg.datamodule.cls_prob = None if found is None else str(found)
    set_known_classes(cfg)
    prepare_process(cfg)
    save_config(cfg)
    data = instantiate_config(cfg.datamodule)
    step, folder = cfg.do[0], Path(cfg.preparation.folder)
    if step == "init":
        name = check_name(cfg.name)
        data.prepare_data()
        files = write_own_config(data, name, plain_config(cfg, "image_size"), Path.cwd())
        experiment = files[-1].stem
        print(f"written: {' and '.join(map(str, files))}; edit them, then train with")
        print(f"  {shlex.join([*PROGRAM, f'experiment={experiment}'])}")
        return
    if step == "inspect":
        check_dataset(data)
        page = inspect_dataset(data, Path(cfg.paths.run))
        print(f"pictures: {page}")
        return
    written = (
        export_dataset(data, folder, cfg.preparation.size)
        if step == "export"
        else crop_dataset(data, folder, cfg.preparation.padding, cfg.seed)
    )
    words = [
        "datamodule=table",
        f"datamodule.root={written}",
        f"datamodule.manifest_name={META_FILE}",
        *CROP_OVERRIDES * (step == "crop"),
    ]
    print(f"written: {written}; train on it with {' '.join(words)}")


def _resolve_references(cfg: DictConfig) -> list[PreparedRun]:
    """Replace `latest:EXPERIMENT` by a run folder; on phantoms, a missing run is made first.

    With fast_dev_run, which saves nothing, only missing data are made.

    Returns:
        The runs that this process made.
    """
    prepared = []
    if "fit" not in cfg.do:
        OmegaConf.update(cfg, "datamodule.cls_prob", None)  # only training uses hard images
    for key in RUN_REFERENCE_KEYS:
        named = OmegaConf.select(cfg, key)
        if not is_latest(named):
            continue
        run = resolve_run(named, Path(cfg.paths.runs), key, phantom=uses_phantoms(cfg))
        if run is not None and not _is_usable(cfg, key, run):
            run = None
        if run is None and (not cfg.trainer.fast_dev_run or key == "datamodule.root"):
            run, made = _make_missing_run(cfg, key, named)
            prepared += made
        if (
            run is None and key == "datamodule.cls_prob"
        ):  # one batch as a test run: no image is hard
            cfg.datamodule.sampling.update(hard_negative=1.0, hard_positive=1.0)
        OmegaConf.update(cfg, key, None if run is None else str(run))
    return prepared


def _make_missing_run(cfg: DictConfig, key: str, named: str) -> tuple[Path, list[PreparedRun]]:
    """Make a run on phantoms that another run needs; one of several trials makes it for all.

    Returns:
        The run, and what was made for it: nothing where another trial has made it meanwhile.
    """
    name = named.removeprefix("latest:")
    runs = Path(cfg.paths.runs)
    runs.mkdir(parents=True, exist_ok=True)
    with (
        FileLock(runs / f".{name}.lock") if rank() == 0 else nullcontext()
    ):  # other ranks wait in that run
        run = resolve_run(named, runs, key, phantom=True)  # another trial may have made it
        if run is not None and _is_usable(cfg, key, run):
            return run, []
        about = f", in about {DEMO_SECONDS[name]} s on two CPU cores" * (name in DEMO_SECONDS)
        if rank() == 0:
            print(
                f"{cfg.title} needs a run of {name}, and there is none on phantoms yet: it is made"
                f" first{about}",
                file=sys.stderr,
            )
        began = time.monotonic()
        made = PreparedRun(name, _run_demo(cfg, name), time.monotonic() - began)
        if rank() == 0:
            print(f"{name} took {made.seconds:.0f} s; {cfg.title} starts now", file=sys.stderr)
        return made.folder, [made]


def _is_usable(cfg: DictConfig, key: str, run: Path) -> bool:
    """Return True if a run has hard images of this data, and its phantoms have not been deleted."""
    if key == "datamodule.cls_prob":
        return _uses_same_phantoms(cfg, run)
    if key == "datamodule.root" and uses_phantoms(cfg):
        return Path(RunFolder(run).config["datamodule"]["root"]).is_dir()
    return True


def _uses_same_phantoms(cfg: DictConfig, run: Path) -> bool:
    """Return True if a run used these phantoms, not others of the same names.

    It is always True for real data, which the split distinguishes.
    """
    place = run / "fold0" if (run / "fold0").is_dir() else run
    seen = RunFolder(place).config["datamodule"]
    own = plain_config(cfg, "datamodule")
    return not own["phantom"] or all(seen.get(key) == own[key] for key in ("phantom", "seed"))


def _run_demo(cfg: DictConfig, name: str) -> Path:
    """Run another experiment on phantoms, on the images of this one if it uses the same."""
    shared = shared_run_name()  # the name for all ranks that torchrun or srun started
    folder = Path(cfg.paths.runs) / name / (shared or claim_time())
    folder = folder if shared or rank() else claim_folder(folder)
    keys = ["paths.data", "paths.cache", "paths.runs"]
    keys += ["trainer.accelerator", "trainer.enable_progress_bar"]
    words = [f"experiment={name}", "scale=demo"]
    words += [to_override(key, plain_config(cfg, key)) for key in keys]
    phantom = plain_config(cfg, "datamodule.phantom")
    own = plain_config(compose_run(words), "datamodule.phantom")
    if phantom and own and phantom["_target_"] == own["_target_"]:  # the same images and split
        words.append(f"datamodule.phantom={quote_value(phantom)}")
        for key in ("datamodule.root", "datamodule.seed"):
            words.append(to_override(key, plain_config(cfg, key)))
    with composed_run(compose_run(words), words, folder) as other:
        run_task(other)
    return folder


def run(experiment: str, overrides: Sequence[str] = ()) -> RunFolder:
    """Run an experiment from Python or a notebook, as `python run.py experiment=NAME ...` does.

    Example:
        >>> import engine
        >>> run = engine.run("demo", overrides=["trainer.max_epochs=2"])  # doctest: +SKIP
        >>> run.score("test", "dice")  # doctest: +SKIP
        0.83

    Args:
        experiment: Name of a file in conf/experiment.
        overrides: Overrides as on the command line.

    Returns:
        The run folder: its report, evidence, configuration, checkpoints and outcome.

    Raises:
        UserError: An override is wrong, or the run needs several processes, which only the command
            line can start.
    """
    check_user_conf()
    words = recompose(prepare_overrides([f"experiment={experiment}", *overrides]))
    composed = compose_run(words)
    if is_multi_process(composed):
        trainer = composed.trainer
        raise UserError(
            f"trainer.devices={trainer.devices} with trainer.num_nodes={trainer.num_nodes} needs"
            " several processes, but engine.run has only this one; type:"
            f" {shlex.join(['python', 'run.py', *words])}"
        )
    with narrow_umask(composed.private), composed_run(composed, words) as cfg:
        run_task(cfg)
        return RunFolder(str(cfg.paths.run))


def _write_bundle(cfg: DictConfig) -> None:
    check_arguments(cfg.datamodule)
    _check_data_root(cfg)
    cfg.datamodule.cls_prob = None  # only training needs probabilities of hard images
    if is_latest(cfg.ckpt_path):
        cfg.ckpt_path = str(require_run(cfg, "ckpt_path"))
    from engine.bundle import bundle_run

    bundle_run(cfg)


def _fetch_weights(cfg: DictConfig) -> None:
    from engine.fetch import run_fetch

    run_fetch(cfg)


STANDALONE_TASKS = {
    "compare": _compare_runs,
    "inspect": _run_data_task,
    "init": _run_data_task,
    "export": _run_data_task,
    "crop": _run_data_task,
    "doctor": _run_doctor,
    "fetch": _fetch_weights,
    "bundle": _write_bundle,
    "wandb_sweep": _write_wandb_sweep,
}
