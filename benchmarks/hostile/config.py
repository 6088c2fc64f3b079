"""Hostile values of plain keys, over all experiments: refused before anything is read, or right."""

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from benchmarks.hostile.runner import Action, Case
from benchmarks.hostile.template import Template
from engine.user_code import CONF

KIND = "config"
KINDS = (KIND,)
SECONDS = 5.0  # of a composition and the constructors of all parts
# key -> values that are refused for every experiment
REFUSED: dict[str, tuple[str, ...]] = {
    "seed": ("null", "abc", "[1,2]", "-1", ".inf", ".nan", "1e400", "1.5", "{a:1}", "${nothing}"),
    "image_size": ("null", "abc", "-32", "0", ".inf", ".nan", "[32]", "[32,32,32]", "1e400", "33"),
    "folds": ("null", "abc", "-1", ".nan", "[2]", "1e400"),
    "fold": ("abc", "-1", ".nan", "[0]", "3"),
    "do": ("null", "abc", "[]", "[abc]", "7", "[[fit]]", "{fit:1}"),
    "title": ("null", "[1,2]", "{a:1}", "${nothing}"),
    "monitor.mode": ("null", "up", "7", "[max]"),
    "monitor.name": ("null", "[val/dice]", "{a:1}", "''"),
    "evaluation_size": ("abc", "-1", "0", ".nan", "[64,64]", "1e400"),
    "evaluation_precision": ("null", "abc", "16", "[32-true]"),
    "tta": ("null", "abc", "true", "[flips]"),
    "average_checkpoints": ("null", "abc", "0", "-1", ".inf", "[1]"),
    "resume": ("abc", "true", "[auto]"),
    "changed_settings": ("null", "abc", "true"),
    "ckpt_path": ("/nonexistent/run", "[a,b]", "7", "/dev/zero", "latest:nothing", "''"),
    "init_from": ("/nonexistent/run", "[a,b]", "{a:1}", "latest:nothing"),
    "datamodule.batch_size": ("null", "abc", "0", "-1", ".inf", ".nan", "[4]", "2.5", "1e400"),
    "datamodule.eval_batch_size": ("abc", "0", ".nan", "[4]"),
    "datamodule.num_workers": ("null", "abc", "-1", ".nan", "[1]"),
    "datamodule.max_pixels": ("null", "abc", "0", "-1", ".inf", ".nan"),
    "datamodule.max_file_bytes": ("null", "abc", "0", "-1", ".inf", ".nan", "1.5"),
    "datamodule.root": ("null", "[a]", "{a:1}", "''"),
    "datamodule.channels": ("null", "abc", "0", "-3", ".nan", "[1]"),
    "datamodule.window": ("abc", "[1]", "[5,5]", "[.nan,1]", "[0,.inf]", "7"),
    "datamodule.allow_leaks": ("null", "abc", "7", "[true]"),
    "datamodule.seed": ("null", "abc", "-1", ".nan"),
    "trainer.max_epochs": ("abc", "-5", ".inf", ".nan", "[3]", "1.5"),
    "trainer.precision": ("null", "abc", "7", "[16]"),
    "trainer.devices": ("null", "abc", "0", "-7", ".nan", "{a:1}"),
    "trainer.accelerator": ("null", "abc", "7", "[cpu]"),
    "trainer.gradient_clip_val": ("abc", "-1", ".nan", "[1]"),
    "trainer.accumulate_grad_batches": ("null", "0", "-1", ".inf", "abc"),
    "trainer.limit_train_batches": ("abc", "-1", "1.5", ".nan"),
    "module.optimizer.lr": ("null", "abc", "-1", ".inf", ".nan", "[1]", "1e400"),
    "paths.cache": ("null", "[a]", "{a:1}"),
    "paths.runs": ("null", "[a]", "{a:1}"),
    "runs": ("abc", "7", "{a:1}"),
    "code": ("7", "[7]", "{a:1}", "[/nonexistent.py]"),
    "nothing": ("1",),
}
# values that are odd and right
ACCEPTED: dict[str, tuple[str, ...]] = {
    "seed": ("0", "4294967295"),
    "title": ("'😀 ü 中'", "'" + "x" * 1000 + "'", "'=cmd'"),
    "trainer.max_epochs": ("null", "1000000"),
    "trainer.gradient_clip_val": ("null", "0", "1e30"),
    "datamodule.batch_size": ("1", "100000"),
    "datamodule.max_file_bytes": ("1", "1000000000000"),
    "image_size": ("64",),
}
PATHS = {"ckpt_path", "init_from"}
FREE = {"linear_probe_pneumonia", "lora_pneumonia"}  # other steps and networks of fixed sizes


def experiments() -> list[str]:
    """Return the names of all experiments."""
    return sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def cases(template: Template) -> Iterator[Case]:
    """Yield all cases of the configuration; each value with one experiment, in turn."""
    turn = cycle(experiments())
    for key, values in REFUSED.items():
        for value in values:
            yield _case(next(turn), key, value)
    for key, values in ACCEPTED.items():
        for value in values:
            experiment = next(name for name in turn if name not in FREE)
            yield _case(experiment, key, value, accepted=True)
    for experiment in experiments():  # a few with each of them
        for key in ("seed", "datamodule.batch_size", "trainer.max_epochs", "module.optimizer.lr"):
            yield _case(experiment, key, ".nan")


def _case(experiment: str, key: str, value: str, accepted: bool = False) -> Case:
    def prepare(folder: Path) -> Action:
        words = [f"{key}={value}"]
        own = {"paths.runs": folder / "runs", "paths.cache": folder / "cache"}
        words += [f"{name}={place}" for name, place in own.items() if name != key]
        if key == "fold":
            words.append("folds=3")
        if key in ("ckpt_path", "init_from"):
            words.append("do=[fit]")
        elif key == "runs":
            words.append("do=[compare]")
        return lambda: _built(experiment, words, key)

    name = f"{experiment}: {key}={value if len(value) < 60 else value[:20] + '...'}"
    last = key.rpartition(".")[2]
    if not accepted:
        # a sentence about a run that does not exist names it, and not the key
        named = value if key in PATHS and not value.startswith(("[", "{", "'")) else last
        named = "nothing" if "${nothing}" in value else named.removeprefix("latest:")
        return Case(KIND, name, prepare, (named,))
    return Case(KIND, name, prepare, (), lambda found: _fits(found, value), False, SECONDS)


def _fits(found: Any, value: str) -> bool:
    """Return True if the value in force is the one that was written."""
    import yaml

    expected = yaml.safe_load(value)
    plain = OmegaConf.to_container(found) if OmegaConf.is_config(found) else found
    if isinstance(expected, str) and expected.replace("e", "").isdecimal():
        expected = float(expected)
    return bool(plain == expected)


def _built(experiment: str, words: list[str], key: str) -> Any:
    """Compose a run and build its parts, up to the first image that would be read.

    Returns:
        The value of the key.
    """
    import engine.runner
    from engine.composition import compose_run, composed_run
    from engine.overrides import prepare_overrides
    from engine.recomposition import recompose
    from engine.tasks import run_task
    from lightning_modules.instantiation import instantiate_config

    def build(cfg: Any, judges: bool, prepared: Any = ()) -> None:
        engine.runner.set_known_classes(cfg)
        engine.runner.prepare_process(cfg)
        engine.runner.check_devices(cfg)
        engine.runner.seed_everything(cfg.seed, workers=True, verbose=False)
        callbacks = engine.runner.build_callbacks(cfg)
        engine.runner.check_stages(cfg, callbacks)
        instantiate_config(cfg.datamodule)
        cfg.trainer.strategy = "auto"
        instantiate_config(cfg.trainer, callbacks=list(callbacks.values()), logger=False)

    engine.runner.run_folds = build
    first = prepare_overrides([f"experiment={experiment}", "scale=demo", *words])
    words = recompose(first)
    with composed_run(compose_run(words), words) as cfg:
        run_task(cfg)
        return OmegaConf.select(cfg, key)
