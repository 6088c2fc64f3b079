"""Runner of one experiment: instantiates the config, then fits, tests and predicts each fold."""

import logging
import sys
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from math import isfinite
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer, seed_everything
from lightning.fabric.plugins.environments import SLURMEnvironment
from omegaconf import DictConfig, OmegaConf
from torch import nn

from callbacks.curriculum import Curriculum
from callbacks.encoder_freezing import EncoderFreezing
from callbacks.prediction_writer import PredictionWriter
from callbacks.report_writer import ReportWriter
from callbacks.threshold_search import ThresholdSearchCallback
from datamodules.base import ManifestDataModule
from datamodules.errors import UnreadableFilesError, UserError
from datamodules.formats.atomic_write import copy_atomic, remove_unfinished
from engine.data_classes import set_classes_from_data, set_known_classes
from engine.ensemble import EnsembleReport, FoldEnsemble, load_ensemble
from engine.error_messages import explain_error
from engine.evaluation_precision import FULL_PRECISION, set_evaluation_precision
from engine.hydra_files import forget_hydra_files
from engine.recomposition import check_unchanged, describe_other_labels, find_run
from engine.resume import check_settings, find_resume_checkpoint, resume_settings
from engine.run_lock import folder_lock
from engine.run_references import (
    PreparedRun,
    ensemble_key,
    find_start_checkpoint,
    resolve_checkpoint,
)
from engine.run_summary import describe_training, print_summary
from engine.seen_images import (
    Record,
    check_test_images,
    earlier_records,
    image_size_is_given,
    is_trained_on_val,
)
from engine.tracking.logger import close_loggers
from engine.tracking.metrics_csv import MetricsCsvLogger, MetricsHistory
from lightning_modules import checkpoint_io
from lightning_modules.base import SupervisedModule
from lightning_modules.checkpoint_schema import check_complete, check_record
from lightning_modules.checkpoint_writer import DurableCheckpointIO
from lightning_modules.configured_weights import (
    drop_replaced_weights,
    find_requests,
    is_own_network,
    weights_key,
)
from lightning_modules.ensemble import Ensemble, load_members, top_checkpoints
from lightning_modules.hardware import (
    best_precision,
    check_devices,
    ddp_strategy,
    set_tensor_float_32,
    tune_malloc,
    uses_cuda,
)
from lightning_modules.instantiation import instantiate_config
from lightning_modules.launch_environment import is_multi_process, launched_by_srun, rank
from lightning_modules.networks.encoder import describe_rates, has_adapters
from lightning_modules.networks.frozen_backbone import FrozenBackboneClassifier
from lightning_modules.normalize import SOURCE_CHECKPOINT
from lightning_modules.pretrained.resolver import resolve
from lightning_modules.training_record import (
    RECORD_KEY,
    RULE_PRECISION_KEY,
    check_same_task,
    trained_window,
)
from reporting.cross_validation import merge_run_folds
from reporting.outcome import OutcomeRecorder, TrialPruned, record_outcome, task_overrides
from reporting.run_folder import CONFIG_FILE, RunFolder
from reporting.training_images import collect_images


def run_stages(
    cfg: DictConfig,
    trainer: Trainer,
    module: SupervisedModule,
    data: ManifestDataModule,
    ensemble: FoldEnsemble | None = None,
) -> float | None:
    """Run the steps in `cfg.do`; return the monitored score of a fit."""
    own = find_resume_checkpoint(cfg)
    start = find_start_checkpoint(cfg)
    if start and "fit" not in cfg.do:  # that of a fit was compared before, by `check_resume`
        checkpoint_io.check_compatible(module, checkpoint_io.read_checkpoint(start), start)
        if start.resolve().is_relative_to(Path(cfg.paths.run).resolve()):
            _keep_metrics_csv(trainer, Path(cfg.paths.run))
    begin = None if own else resolve_checkpoint(cfg, "init_from")
    # the first network of an ensemble, whose normalization and frozen weights all members share
    if begin:
        whole = checkpoint_io.load_weights(module, begin)
        if not whole and not start and "fit" not in cfg.do:
            part = f"init_from={cfg.init_from} gives only its backbone"
            raise UserError(
                f"do=[{cfg.do[0]}] needs a trained network, and {part}; name a run folder or a"
                " checkpoint with ckpt_path=..."
            )
    score = None
    if "fit" in cfg.do:
        trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
        if start and trainer.is_global_zero:
            _keep_last_checkpoint(start, Path(cfg.paths.run) / "checkpoints" / "last.ckpt")
        best = getattr(trainer.checkpoint_callback, "best_model_score", None)
        score = trainer.callback_metrics.get(cfg.monitor.name) if best is None else best
        start = Path(getattr(trainer.checkpoint_callback, "best_model_path", None) or "")
        start = start if start.is_file() else None
        trained_in = str(trainer.precision)
        if cfg.do[-1] != "fit" or (start and trained_in != cfg.evaluation_precision):
            set_evaluation_precision(trainer, module, cfg.evaluation_precision)
    if ensemble is not None:
        _evaluate_ensemble(cfg, trainer, module, data, ensemble)
    elif cfg.do[-1] != "fit" or (start and str(trainer.precision) != trained_in):
        _evaluate(cfg, trainer, module, data, start)
    return None if score is None else float(score)


def _keep_last_checkpoint(start: Path, last: Path) -> None:
    """Copy the checkpoint that a fit continued from if it had no epoch left and saved nothing."""
    if not last.is_file() and last.parent.is_dir():
        copy_atomic(start, last)


def _keep_metrics_csv(trainer: Trainer, run_dir: Path) -> None:
    """Let a test in the folder of its own run add to the rows of its training."""
    for logger in trainer.loggers:
        if isinstance(logger, MetricsCsvLogger) and (text := RunFolder(run_dir).metrics_text):
            logger.restore(text)


def _evaluate(
    cfg: DictConfig,
    trainer: Trainer,
    module: SupervisedModule,
    data: ManifestDataModule,
    start: Path | None,
) -> None:
    """Test and predict with the weights of `start`, or with those of the module.

    After a fit, and where the checkpoint's rule was searched in another precision, the rule is
    searched again on val; that of a fit is written into its best checkpoint.
    """
    changed = cfg.tta != "none" or cfg.average_checkpoints > 1
    if start is not None:
        checkpoint_io.adopt_image_size(data, start)
        checkpoint_io.adopt_window(data, start)
    other_precision = "fit" not in cfg.do and start and _rule_precision(start) != trainer.precision
    searches = "fit" in cfg.do or changed
    if other_precision and start:
        searches = searches or is_trained_on_val(data, _record_of(start))
    _refer_to_checkpoints(trainer, [] if start is None else [start])
    if changed:
        _check_views(cfg, data)
        _build_ensemble(cfg, module, start)
        start = None
    if searches and data.can_validate:
        # the rule depends on the weights and on the inference
        trainer.validate(module, datamodule=data, ckpt_path=start, weights_only=True, verbose=False)
        start = start if "fit" in cfg.do else None  # another run's file keeps its own rule
    elif (changed or other_precision) and rank() == 0:
        print(
            "no rule can be searched without the run's val images: the run's own rule is used,"
            " though it was searched for another inference or precision",
            file=sys.stderr,
        )
    if "test" in cfg.do:
        trainer.test(module, datamodule=data, ckpt_path=start, weights_only=True, verbose=False)
    if "predict" in cfg.do:
        trainer.predict(
            module, datamodule=data, return_predictions=False, ckpt_path=start, weights_only=True
        )


def _refer_to_checkpoints(trainer: Trainer, checkpoints: Sequence[Path]) -> None:
    """Let report and predictions name the checkpoints by path and hash; nothing is copied."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ReportWriter | PredictionWriter):
            callback.checkpoints = list(checkpoints)


def _rule_precision(checkpoint: Path) -> str | None:
    """Return the precision in which a checkpoint's rule was searched; None if unknown."""
    return checkpoint_io.read_metadata(checkpoint).get(RULE_PRECISION_KEY)


def _record_of(checkpoint: Path) -> dict[str, Any] | None:
    return checkpoint_io.read_metadata(checkpoint).get(RECORD_KEY)


def _evaluate_ensemble(
    cfg: DictConfig,
    trainer: Trainer,
    module: SupervisedModule,
    data: ManifestDataModule,
    ensemble: FoldEnsemble,
) -> None:
    """Test and predict with the networks of several folds together.

    Most of them were trained on val, so nothing is evaluated on it.
    """
    paths = ensemble.checkpoints
    module.load_state_dict(checkpoint_io.read_checkpoint(paths[0])["state_dict"])
    checkpoint_io.adopt_image_size(data, paths[0])
    checkpoint_io.adopt_window(data, paths[0])
    _note_different_windows(data, paths)
    if "test" in cfg.do and not data.allow_leaks:
        ensemble.check_not_trained_on(
            data.table.rows["id"][data.table.rows["split"] == "test"].tolist(), data.root
        )
    nets = load_members(module, paths, "name folds of one experiment")
    module.net = _combine(module, nets, cfg)
    _check_views(cfg, data)
    ensemble_report = EnsembleReport(ensemble, cfg.tta)
    ensemble_report.find_rule(trainer, module)
    trainer.callbacks.append(ensemble_report)  # type: ignore[attr-defined]
    if "test" in cfg.do:
        trainer.test(module, datamodule=data, verbose=False)
    _refer_to_checkpoints(trainer, paths)
    if "predict" in cfg.do:
        trainer.predict(module, datamodule=data, return_predictions=False)


def _note_different_windows(data: ManifestDataModule, paths: Sequence[Path]) -> None:
    """Tell that networks were trained with several windows, as those of folds are.

    All of them see the images by the window of the first one.
    """
    found = [trained_window(checkpoint_io.read_metadata(path)) for path in paths]
    windows = sorted({each.window for each in found if each is not None and each.window})
    if len(windows) > 1 and data.window is None and rank() == 0:
        listed = ", ".join(f"[{low:g},{high:g}]" for low, high in windows)
        print(
            f"the networks were trained with the windows {listed}, and that of {paths[0]} is used;"
            " train them with datamodule.window=[low,high] to have one",
            file=sys.stderr,
        )


def _build_ensemble(cfg: DictConfig, module: SupervisedModule, start: Path | None) -> None:
    """Combine several checkpoints, and mirrored views, into one network.

    The rule is that of the best checkpoint until a new one is found.
    """
    if start is not None:
        module.load_state_dict(checkpoint_io.read_checkpoint(start)["state_dict"])
    nets = [module.net]
    if cfg.average_checkpoints > 1:
        nets = load_members(
            module,
            top_checkpoints(start, cfg.average_checkpoints),
            f"set average_checkpoints=1 instead of average_checkpoints={cfg.average_checkpoints}",
        )
    module.net = _combine(module, nets, cfg)


def _check_views(cfg: DictConfig, data: ManifestDataModule) -> None:
    """Refuse turned images where the network's input is not square."""
    size = data.current_image_size()
    if cfg.tta == "turns" and size.height != size.width:
        raise UserError(
            f"tta=turns turns images by 90 degrees, but image_size={size.as_config} is not square;"
            " take tta=flips"
        )


def _combine(module: SupervisedModule, nets: Sequence[nn.Module], cfg: DictConfig) -> Ensemble:
    exclusive = module.target == "mask" and getattr(module, "exclusive", False)
    return Ensemble(nets, cfg.tta, exclusive_masks=exclusive)


def check_stages(cfg: DictConfig, callbacks: dict[str, Any]) -> None:
    """Refuse steps that cannot work, before any image is read.

    Args:
        cfg: Configuration of the run.
        callbacks: Callbacks by their names in conf.

    Raises:
        UserError: It is refused; the message names the key.
    """
    if "predict" in cfg.do and not any(
        type(callback).on_predict_end is not Callback.on_predict_end
        for callback in callbacks.values()
    ):
        raise UserError(
            "do=[predict] would write nothing without the callback predictions; take"
            " callbacks=[...,predictions]"
        )
    if ensemble_key(cfg) and not any(
        isinstance(callback, ThresholdSearchCallback) for callback in callbacks.values()
    ):
        raise UserError(
            f"{ensemble_key(cfg)} names several networks, which need one rule; take"
            " callbacks=[...,threshold_search/segmentation] or threshold_search/classification"
        )
    kept = getattr(callbacks.get("top_checkpoints"), "save_top_k", 0)
    if "fit" in cfg.do and cfg.average_checkpoints > 1 and kept != cfg.average_checkpoints:
        fix = (
            "take extra=top_checkpoints"
            f" callbacks.top_checkpoints.save_top_k={cfg.average_checkpoints}"
        )
        raise UserError(
            f"average_checkpoints={cfg.average_checkpoints} needs {cfg.average_checkpoints}"
            f" checkpoints, and this fit would keep {kept} of its best ones; {fix}"
        )


FOLDERS_OF_A_RUN = (".", ".hydra", "checkpoints", "evidence")  # where a killed run leaves files
IGNORED_WARNINGS = (  # warnings of libraries that users cannot act on
    ".*LeafSpec.*",
    ".*exists and is not empty.*",
    ".*smaller than the logging interval.*",
    ".*does not have many workers.*",
    ".*The dirpath has changed from.*",
    ".*in eval mode at the start of training.*",  # as intended for a frozen backbone
    ".*custom batch sampler `EvaluationSampler`.*",  # it returns every row once
    # a run on the login node is the user's choice
    ".*`srun` command is available on your system but is not used.*",
    # every rank has the gathered evidence and the same score
    ".*It is recommended to use `self.log.*sync_dist.*",
    ".*WeightAveraging callback, but (loading|saving) a checkpoint outside.*",
)


def run_experiment(
    cfg: DictConfig,
    ensemble: FoldEnsemble | None = None,
    prepared: Sequence[PreparedRun] = (),
) -> float | None:
    """Build the parts and run the steps; return the monitored score of a fit.

    Args:
        cfg: Configuration of the run.
        ensemble: Networks that are evaluated together, if `ckpt_path` or `init_from` names several.
        prepared: Runs that were made for this one.
    """
    if rank() != 0:
        return _run_experiment(cfg, ensemble, prepared)
    with folder_lock(Path(cfg.paths.run), task_overrides() or []):
        for name in FOLDERS_OF_A_RUN:
            remove_unfinished(Path(cfg.paths.run) / name)
        return _run_experiment(cfg, ensemble, prepared)


def _run_experiment(
    cfg: DictConfig, ensemble: FoldEnsemble | None, prepared: Sequence[PreparedRun]
) -> float | None:
    set_known_classes(cfg)
    prepare_process(cfg)
    check_devices(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    callbacks = build_callbacks(cfg)  # they refuse impossible settings before any image is read
    check_stages(cfg, callbacks)
    loggers = [instantiate_config(part) for part in cfg.logger.values()]
    evaluated_checkpoint = resolve_checkpoint(cfg, "ckpt_path") or resolve_checkpoint(
        cfg, "init_from"
    )
    record = _class_record(cfg, evaluated_checkpoint)
    set_known_classes(cfg, record)
    if cfg.ckpt_path and "fit" not in cfg.do:
        check_unchanged(cfg, find_run(str(cfg.ckpt_path)), task_overrides() or [])
    data = instantiate_config(cfg.datamodule)
    if evaluated_checkpoint and "fit" not in cfg.do:
        data.size_is_given = image_size_is_given(data, evaluated_checkpoint)
        checkpoint_io.adopt_image_size(
            data, evaluated_checkpoint
        )  # no image is cached smaller than the network's input
        window_note = checkpoint_io.adopt_window(data, evaluated_checkpoint)
        if window_note and rank() == 0:
            print(window_note, file=sys.stderr)
    data.check_workers()
    records = earlier_records(cfg, ensemble)
    starts = [path for _, path, _ in records[: 1 if ensemble else None]]
    check_weights(cfg, starts)
    data.prepare_data()  # the data is checked before a network is built
    set_classes_from_data(cfg, data.table)
    note = check_test_images(cfg, data, records)
    if "fit" in cfg.do:
        _ = data.pool  # and so is the sampling
    module = build_module(cfg, data, starts)
    module.pretrained_weights = _pretrained_weights(module, records)
    _check_same_task(cfg, records, module, data)
    _check_frozen_weights(cfg, list(callbacks.values()), module, starts)
    if cfg.trainer.strategy == "auto" and is_multi_process(cfg):
        freezing = [each for each in callbacks.values() if isinstance(each, EncoderFreezing)]
        later = any(each.epochs is not None for each in freezing)
        cfg.trainer.strategy = ddp_strategy(module, find_unused=later)
    trainer = instantiate_config(
        cfg.trainer,
        callbacks=[MetricsHistory(), *callbacks.values()],
        logger=loggers,
        plugins=trainer_plugins(),
    )
    check_ranks(cfg, trainer, data)
    if "fit" in cfg.do:
        module.settings = resume_settings(cfg, trainer, data)
        module.parent_records = [record for _, _, record in records if record is not None]
        if check_resume(cfg, trainer, module):
            note = ", ".join(filter(None, [note, "settings changed on the way"]))
    _add_to_title(cfg, callbacks, ", ".join(filter(None, [note, _other_labels(cfg)])))
    save_config(cfg)
    if rank() == 0 and "fit" in cfg.do and not cfg.trainer.fast_dev_run:
        collect_images(data).write(Path(cfg.paths.run))
    module.training_description = describe_training(cfg, trainer, module)
    print_summary(cfg, trainer, module, data, prepared)
    code = 1
    try:
        score = _run_and_record(cfg, trainer, module, data, ensemble)
        code = 0 if score is None or isfinite(score) else 1
    finally:
        close_loggers(
            loggers, code, trainer
        )  # otherwise the next fit would write into the same W&B run
    if data.unreadable and "predict" in cfg.do and rank() == 0:
        _report_unreadable(data, Path(cfg.paths.run))
    return score


def _other_labels(cfg: DictConfig) -> str:
    """Describe how a test reads labels differently than the training of its network did."""
    if "test" not in cfg.do or "fit" in cfg.do or not cfg.ckpt_path:
        return ""
    return describe_other_labels(find_run(str(cfg.ckpt_path)), cfg, task_overrides() or [])


def _report_unreadable(data: ManifestDataModule, run_dir: Path) -> None:
    """End the run with its own exit code, because files are missing from its predictions.

    Raises:
        UnreadableFilesError: Always; the message names the first file.
    """
    number, (id, reason) = len(data.unreadable), next(iter(data.unreadable.items()))
    raise UnreadableFilesError(
        f"{number} of {len(data.table)} files cannot be read and {'have' if number > 1 else 'has'}"
        f" no prediction, such as '{id}' ({reason}); all others are predicted, and the tables in"
        f" {run_dir / 'predictions'} list the reasons in their column problem"
    )


def _class_record(cfg: DictConfig, checkpoint: Path | None) -> dict[str, Any] | None:
    """Return the training record of the checkpoint whose classes the run has; None in a fit."""
    if checkpoint is None or "fit" in cfg.do:
        return None
    record = check_record(checkpoint_io.read_metadata(checkpoint), checkpoint)
    if record is None and cfg.module.classes is None:
        raise UserError(
            f"{checkpoint} has no training_record, so its classes are unknown; set"
            " module.classes=[...] as in its training, or name another checkpoint"
        )
    return record


def check_weights(cfg: DictConfig, checkpoints: Sequence[Path]) -> None:
    """Find all pretrained weights, or download them, before any image is read.

    Args:
        cfg: Configuration of the run.
        checkpoints: Checkpoints from which weights are loaded later.

    Raises:
        UserError: Weights cannot be had; the message names the ways that work.
    """
    own = cfg.copy()
    drop_replaced_weights(own, checkpoints)
    for request in find_requests(own):
        resolve(request)


def _pretrained_weights(module: SupervisedModule, records: list[Record]) -> list[dict[str, Any]]:
    """Return the pretrained weights of the network, or of the run that it continues from."""
    found = getattr(module.net, "pretrained", None)
    if found is not None:
        return [found.as_dict()]
    earlier = (record.get("pretrained", []) for _, _, record in records[:1] if record is not None)
    return next(earlier, [])


def build_module(
    cfg: DictConfig, data: ManifestDataModule, checkpoints: list[Path]
) -> SupervisedModule:
    """Build the module for the image size of the data, without weights that will be replaced.

    Args:
        cfg: Configuration of the run.
        data: Data module, whose image size may be that of a checkpoint.
        checkpoints: Checkpoints from which all weights, or the frozen ones, are loaded later.
    """
    own = cfg.copy()
    OmegaConf.update(own, "datamodule.image_size", data.image_size.as_config)
    replaced = drop_replaced_weights(own, checkpoints)
    module: SupervisedModule = instantiate_config(own.module)
    if replaced and not module.normalize.explicit:
        module.normalize.source = SOURCE_CHECKPOINT
    return module


def _run_and_record(
    cfg: DictConfig, trainer: Trainer, module: Any, data: Any, ensemble: FoldEnsemble | None
) -> float | None:
    """Run the stages and record the outcome; return the monitored score of a fit."""
    with _record_on_first_rank(Path(cfg.paths.run)) as recorder:
        try:
            score = run_stages(cfg, trainer, module, data, ensemble)
        except TrialPruned as pruned:
            recorder.prune(pruned.score)
            return pruned.score
        except Exception as error:
            refusal = explain_error(error, cfg, trainer, module)
            if refusal is not None:
                raise refusal from error
            raise
        recorder.finish(score)
        return score


def _record_on_first_rank(run_dir: Path) -> AbstractContextManager[OutcomeRecorder]:
    """Return a recorder of the outcome, which writes nothing on other ranks."""
    return record_outcome(run_dir) if rank() == 0 else nullcontext(OutcomeRecorder())


def build_callbacks(cfg: DictConfig) -> dict[str, Any]:
    """Build the callbacks by name, with `graceful_shutdown` last, so that it runs after all others.

    An experiment may set values of a callback that `callbacks=[...]` leaves out; such an entry has
    no target and is skipped.
    """
    names = sorted(
        (name for name in cfg.callbacks if "_target_" in cfg.callbacks[name]),
        key=lambda name: name == "graceful_shutdown",
    )
    return {
        name: instantiate_config(cfg.callbacks[name])
        for name in names
        if name != "progress" or cfg.trainer.enable_progress_bar
    }


def prepare_process(cfg: DictConfig) -> None:
    """Set up precision, allocator and warnings of the process, and save the configuration.

    The configuration of a finished run is kept until this one has been validated.
    """
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    for library in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    tune_malloc()
    if "fit" not in cfg.do:
        cfg.trainer.precision = cfg.evaluation_precision
    set_tensor_float_32(cfg.trainer.precision != FULL_PRECISION or "fit" in cfg.do)
    if cfg.trainer.precision == "auto":
        cfg.trainer.precision = best_precision(cfg.trainer.accelerator)
    if cfg.trainer.sync_batchnorm == "auto":
        cfg.trainer.sync_batchnorm = uses_cuda(cfg.trainer.accelerator)
    Path(cfg.paths.run).mkdir(parents=True, exist_ok=True)
    if not (Path(cfg.paths.run) / CONFIG_FILE).is_file():
        save_config(cfg)


def _check_same_task(cfg: DictConfig, records: list[Record], module: Any, data: Any) -> None:
    """Refuse a checkpoint of other classes or channels; a frozen backbone may differ in classes."""
    for key, path, record in records[:1]:
        body_alone = (
            key == "init_from"
            and record is not None
            and len(record["classes"]) != len(module.classes)
        )
        if not body_alone and ("fit" not in cfg.do or key == "ckpt_path"):
            check_same_task(record, module, data.channels, path)


def _check_frozen_weights(
    cfg: DictConfig, callbacks: Sequence[Any], module: SupervisedModule, starts: Sequence[Path]
) -> None:
    """Refuse to freeze random weights, and warn of a smaller learning rate for them.

    A network of the user's own may load its own weights, and is not refused.
    """
    if "fit" not in cfg.do:
        return
    for each in callbacks:
        if isinstance(each, EncoderFreezing):
            each.check_module(module, callbacks)
    if starts or not is_own_network(cfg) or getattr(module.net, "pretrained", None) is not None:
        return
    some = f"{weights_key(cfg)}={'imagenet' if 'encoder' in cfg.module.net else 'NAME'}"
    found = _freezing_key(callbacks, module)
    if found is not None:
        key, fix = found
        raise UserError(
            f"{key} would freeze random weights, because the encoder has no pretrained weights;"
            f" take some, such as {some}, or those of a run with init_from=RUN, or {fix}"
        )
    slow = module.encoder_lr_mult < 1 or module.layer_decay < 1
    keys = {word.partition("=")[0] for word in task_overrides() or []}
    asked = keys & {"module.encoder_lr_mult", "module.layer_decay"}  # not those of an experiment
    if slow and asked and rank() == 0:
        words = describe_rates(module.encoder_lr_mult, module.layer_decay)
        print(
            f"{' and '.join(words)} slows the learning of random weights, because the encoder has"
            f" no pretrained weights; take some, such as {some}, or train the encoder at the"
            " ordinary rate",
            file=sys.stderr,
        )


def _freezing_key(callbacks: Sequence[Any], module: SupervisedModule) -> tuple[str, str] | None:
    """Return the key that freezes weights of the encoder from the start, and how to do without."""
    for each in callbacks:
        if isinstance(each, EncoderFreezing):
            return "callbacks.freeze_encoder", "remove freeze_encoder from extra=[...]"
        if isinstance(each, Curriculum) and each.stages[0].freeze_encoder:
            return "callbacks.curriculum.stages[0].freeze_encoder", "remove it from the first stage"
    if isinstance(module.net, FrozenBackboneClassifier):
        probe = "" if module.net.has_adapters else "=null (a linear probe)"
        return f"module.net.lora{probe}", "take module/net=classifier, which trains all weights"
    if has_adapters(module.net):
        return "module.net.lora", "set module.net.lora=null"
    return None


def _add_to_title(cfg: DictConfig, callbacks: dict[str, Any], note: str | None) -> None:
    """Add notes that readers must know before the scores to the title of the run and its page."""
    if note:
        cfg.title = f"{cfg.title} ({note})"
        for callback in callbacks.values():
            if isinstance(callback, ReportWriter | PredictionWriter):
                callback.title = str(cfg.title)


def check_ranks(cfg: DictConfig, trainer: Trainer, data: ManifestDataModule) -> None:
    """Refuse an evaluation with fewer images than processes, because all must have an image.

    Raises:
        UserError: A split is too small; the message names it and a number of processes that works.
    """
    searches = "fit" in cfg.do or cfg.tta != "none" or cfg.average_checkpoints > 1
    evaluated: list[tuple[str, ...]] = [
        *([("val",)] if searches and data.can_validate else []),  # val for the search of the rule
        *([("test",)] if "test" in cfg.do else []),
        *([data.predict_splits] if "predict" in cfg.do else []),
    ]
    for names in evaluated:
        images = int(data.table.rows["split"].isin(names).sum())
        if 0 < images < trainer.world_size:
            raise UserError(
                f"{' and '.join(names)} has {images} image{'s' * (images > 1)} for"
                f" {trainer.world_size} processes (trainer.devices={cfg.trainer.devices}), and each"
                f" needs one; set trainer.devices={images}"
                f"{' trainer.num_nodes=1' if cfg.trainer.num_nodes > 1 else ''}"
            )


def check_resume(cfg: DictConfig, trainer: Trainer, module: Any) -> bool:
    """Refuse a fit that cannot resume from its checkpoint, before an earlier run is changed.

    Returns:
        True if the fit resumes with other settings, as the user requested.
    """
    start = find_start_checkpoint(cfg)
    if start is None:
        return False
    checkpoint = checkpoint_io.read_checkpoint(start)
    checkpoint_io.check_compatible(module, checkpoint, start)
    check_complete(checkpoint, start)
    changed = check_settings(
        module.settings, checkpoint, start, cfg.changed_settings == "apply", trainer.max_epochs
    )
    module.resumed_settings = checkpoint["settings"] if changed else None
    return changed


def save_config(cfg: DictConfig) -> None:
    """Write the resolved configuration into the run folder, once for all ranks."""
    if rank() == 0:
        forget_hydra_files(Path(cfg.paths.run))
        RunFolder(cfg.paths.run).write_config(cfg)


def trainer_plugins() -> list[Any]:
    """Return the plugins of the trainer.

    Under srun, Lightning must not requeue the job, because the submitter does so after last.ckpt is
    written.
    """
    slurm = [SLURMEnvironment(auto_requeue=False)] if launched_by_srun() else []
    return [DurableCheckpointIO(), *slurm]


def run_folds(cfg: DictConfig, judges: bool, prepared: Sequence[PreparedRun] = ()) -> float | None:
    """Run fit, test and predict for one network, `folds` of them, or an ensemble.

    Args:
        cfg: Configuration of the run.
        judges: True if the data has ground truth for an evaluation.
        prepared: Runs that were made for this one.

    Returns:
        The monitored score of a fit, the mean of several.

    Raises:
        UserError: Several fits cannot start from one checkpoint, or an ensemble cannot be built.
    """
    ensemble = load_ensemble(cfg)
    if ensemble is not None:
        cfg.title = f"{cfg.title}, ensemble of {len(ensemble.members)} networks"
        return run_experiment(cfg, ensemble, prepared)
    if not (cfg.folds and cfg.fold is None and judges):
        return run_experiment(cfg, prepared=prepared)
    if cfg.ckpt_path or "fit" not in cfg.do:
        raise UserError(
            f"folds={cfg.folds} makes {cfg.folds} fits, which cannot all start from one checkpoint;"
            " continue one of them with fold=i ckpt_path=..."
        )
    return _run_each_fold(cfg, prepared)


def _run_each_fold(cfg: DictConfig, prepared: Sequence[PreparedRun]) -> float | None:
    folder = Path(cfg.paths.run)
    with _record_on_first_rank(folder) as recorder:
        mean = _fit_folds(cfg, folder, prepared)
        recorder.finish(mean)
        return mean


def _fit_folds(cfg: DictConfig, folder: Path, prepared: Sequence[PreparedRun]) -> float | None:
    """Fit each fold, merge their test results, and return the mean of their scores."""
    scores, note = [], ""
    for fold in range(cfg.folds):
        one = cfg.copy()
        one.fold, one.paths.run, one.title = (
            fold,
            str(folder / f"fold{fold}"),
            f"{cfg.title}, fold {fold} of {cfg.folds}",
        )
        if rank() == 0:
            forget_hydra_files(folder)
            words = [*(task_overrides() or []), f"fold={fold}"]
            RunFolder(one.paths.run).write_composition(one, words)
        before = str(one.title)
        scores.append(run_experiment(one, prepared=() if fold else prepared))
        note = note or str(one.title).removeprefix(before)
    if "test" in cfg.do and not cfg.trainer.fast_dev_run and rank() == 0:
        merge_run_folds(folder, cfg.folds, f"{cfg.title}{note}")
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None
