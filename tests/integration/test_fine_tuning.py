"""Tests of fine-tuning by run.py: frozen epochs resumed exactly, two ranks, LoRA, refusals."""

import json
import os
import re
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch

from callbacks.encoder_freezing import EncoderFreezing
from callbacks.graceful_shutdown import GracefulShutdown
from lightning_modules.base import SupervisedModule
from tests.conftest import SMALL, SMALL_LABELS, SMALL_PNX, refused
from tests.factories.distributed import one_rank, ranks
from tests.factories.finished_run import finish_run
from tests.factories.optional import import_optional
from tests.integration.test_ranks import WORDS

FIT = ["do=[fit]", "datamodule.batches_per_epoch=3", "trainer.precision=32-true"]
FREEZE = ["extra=freeze_encoder", "callbacks.freeze_encoder.epochs=2"]
DECAY = "module.optimizer.weight_decay=0.1"
RATES = ["module.encoder_lr_mult=0.5", "module.layer_decay=0.9", DECAY]


@pytest.fixture(scope="module")
def start(export, tmp_path_factory) -> Path:
    """The run whose weights the others start from."""
    words = [*SMALL, *FIT, f"datamodule.root={export}", "trainer.max_epochs=1", "seed=7"]
    return finish_run(words, tmp_path_factory.mktemp("start") / "run")


def read(folder: Path, name: str = "last") -> dict:
    return torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)


def fit(cli, folder, export, *words) -> pd.DataFrame:
    code, said = cli(*SMALL, f"datamodule.root={export}", *FIT, *words, folder=folder)
    assert code == 0, said
    return pd.read_csv(folder / "metrics.csv")


def flat(value, key="") -> dict:
    """All leaves of a checkpoint's nested values, by their paths."""
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    else:
        return {key: value}
    return {
        name: leaf for part, inner in parts for name, leaf in flat(inner, f"{key}.{part}").items()
    }


def assert_same_state(one: dict, other: dict) -> None:
    """Weights, buffers, optimizer and schedule are bitwise equal."""
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "random_states"):
        first, second = flat(one[part]), flat(other[part])
        assert first.keys() == second.keys()
        for name, value in first.items():
            same = (
                torch.equal(value, second[name])
                if isinstance(value, torch.Tensor)
                else value == second[name]
            )
            assert same, f"{part}{name}"


def of_encoder(checkpoint: dict) -> dict:
    return {
        name: value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith("net.encoder.")
    }


def stop_at(monkeypatch, step: int) -> None:
    """Sends SIGTERM at the end of a step."""
    own = GracefulShutdown.on_train_batch_end

    def end(self, trainer, *rest):
        if trainer.global_step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        own(self, trainer, *rest)

    monkeypatch.setattr(GracefulShutdown, "on_train_batch_end", end)


# the fit has 4 epochs of 3 steps, and the encoder is trained from step 7: steps 3, 6 and 9 end an
# epoch, the others lie in the middle of a frozen epoch, and of the first one that is trained
STOPS = [
    pytest.param(step, marks=[pytest.mark.slow] * (step not in (6, 7))) for step in range(1, 12)
]


@pytest.fixture(scope="module")
def whole(start, export, tmp_path_factory) -> Path:
    """The run that is not interrupted."""
    words = [*SMALL, *FIT, *FREEZE, *RATES, f"datamodule.root={export}", "trainer.max_epochs=4"]
    words += ["module/scheduler=warmup_cosine", f"init_from={start}"]
    return finish_run(words, tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.slow
@pytest.mark.parametrize("step", STOPS)
def test_a_run_that_was_stopped_at_any_step_goes_on_exactly(
    step, cli, start, whole, export, tmp_path, monkeypatch
):
    words = [*FREEZE, *RATES, "trainer.max_epochs=4", "module/scheduler=warmup_cosine"]
    cut = tmp_path / "cut"
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        code, said = cli(
            *SMALL, f"datamodule.root={export}", *FIT, *words, f"init_from={start}", folder=cut
        )
    assert code == 130 and f"stopped after step {step}" in said
    fit(cli, cut, export, *words, f"ckpt_path={cut}")
    assert_same_state(read(whole), read(cut))
    first, second = (pd.read_csv(folder / "metrics.csv") for folder in (whole, cut))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_the_encoder_keeps_its_weights_and_statistics_and_then_learns_at_its_own_rate(
    cli, start, export, tmp_path, monkeypatch
):
    states, rates, own = [], [], SupervisedModule.training_step

    def step(module, batch, batch_idx):
        encoder = module.net.encoder
        states.append({n: v.clone() for n, v in encoder.state_dict().items() if "num_" not in n})
        rates.append(sorted({group["lr"] for group in module.trainer.optimizers[0].param_groups}))
        frozen = module.trainer.current_epoch < 2
        assert encoder.training is not frozen
        assert any(p.requires_grad for p in encoder.parameters()) is not frozen
        return own(module, batch, batch_idx)

    monkeypatch.setattr(SupervisedModule, "training_step", step)
    words = [*FREEZE, "module.encoder_lr_mult=0.5", DECAY]
    fit(cli, tmp_path / "run", export, *words, "trainer.max_epochs=3", f"init_from={start}")
    first = of_encoder(read(start, "best"))
    before = {name.removeprefix("net.encoder."): value for name, value in first.items()}
    for state in states[:7]:
        assert all(torch.equal(value, before[name]) for name, value in state.items())
    used = [name for name in states[0] if name.startswith(("conv1", "layer1", "bn1"))]
    assert not any(torch.equal(states[7][name], before[name]) for name in used)
    unused = [name for name in states[0] if name.startswith("layer4")]
    assert unused and all(torch.equal(states[-1][name], before[name]) for name in unused)
    assert {tuple(each) for each in rates} == {(0.5e-3, 1e-3)}


@pytest.mark.slow
def test_an_encoder_that_is_never_trained_is_not_in_the_optimizer(cli, start, export, tmp_path):
    words = ["extra=freeze_encoder", "callbacks.freeze_encoder.epochs=null"]
    fit(cli, tmp_path / "run", export, *words, "trainer.max_epochs=2", f"init_from={start}")
    first, last = of_encoder(read(start, "best")), of_encoder(read(tmp_path / "run"))
    assert all(torch.equal(value, last[name]) for name, value in first.items())
    moments = read(tmp_path / "run")["optimizer_states"][0]["state"]
    others = [n for n in read(start)["state_dict"] if re.search(r"(weight|bias)$", n)]
    assert len(moments) == len([n for n in others if not n.startswith("net.encoder.")])
    fit(
        cli,
        tmp_path / "run",
        export,
        *words,
        "trainer.max_epochs=2",
        f"init_from={start}",
        "do=[fit,test]",
    )
    counted = json.loads((tmp_path / "run/report.json").read_text())["parameters"]
    state = read(start)["state_dict"]
    decoder = [n for n in others if n.startswith("net.") and not n.startswith("net.encoder.")]
    assert counted["trainable"] == sum(state[name].numel() for name in decoder)
    code, said = cli(  # the optimizer of such a checkpoint has no encoder
        *[*SMALL, f"datamodule.root={export}", *FIT, "trainer.max_epochs=3"],
        *["changed_settings=apply", f"ckpt_path={tmp_path / 'run'}"],
        folder=tmp_path / "other",
    )
    assert code == 2 and "callbacks.freeze_encoder._target_=" in said


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [1, "null"])
def test_an_average_of_weights_leaves_a_frozen_encoder_as_it_is(
    epochs, cli, start, export, tmp_path
):
    words = ["extra=[freeze_encoder,ema]", f"callbacks.freeze_encoder.epochs={epochs}"]
    fit(cli, tmp_path / "run", export, *words, "trainer.max_epochs=2", f"init_from={start}")
    first, average = of_encoder(read(start, "best")), of_encoder(read(tmp_path / "run"))
    floats = [name for name, value in first.items() if value.is_floating_point()]
    # d x + (1 - d) x is x but for rounding
    same = [torch.allclose(first[name], average[name], rtol=1e-5) for name in floats]
    assert all(same) is (epochs == "null")


@pytest.mark.slow
def test_a_classifier_freezes_all_but_its_head(cli, radiographs, tmp_path):
    words = [word for word in SMALL_LABELS if "efficientnet" not in word]
    words += ["module/net=classifier", "module.net.encoder.name=resnet18", *FIT[:1], *FIT[2:]]
    words += ["module.net.encoder.weights=null"]
    words += [f"datamodule.root={radiographs}", "trainer.limit_train_batches=3"]
    code, said = cli(*words, "trainer.max_epochs=1", folder=tmp_path / "start")
    assert code == 0, said
    words += [f"init_from={tmp_path / 'start'}", "extra=freeze_encoder", "trainer.max_epochs=2"]
    words += ["callbacks.freeze_encoder.epochs=1", "module.encoder_lr_mult=0.1"]
    code, said = cli(*words, "module.layer_decay=0.8", folder=tmp_path / "run")
    assert code == 0, said
    rates = {group["lr"] for group in read(tmp_path / "run")["optimizer_states"][0]["param_groups"]}
    assert sorted(rates) == pytest.approx([1e-4 * 0.8**k for k in range(9, 0, -1)] + [1e-3])


REFUSALS = {
    "random weights": ([], "would freeze random weights", "init_from=RUN"),
    "all epochs": (
        ["trainer.max_epochs=2"],
        "callbacks.freeze_encoder.epochs=2 is the whole fit",
        "callbacks.freeze_encoder.epochs=null",
    ),
    "no epochs": (
        ["callbacks.freeze_encoder.epochs=0"],
        "callbacks.freeze_encoder.epochs=0 is not allowed",
        "a whole number of 1 or more, or null",
    ),
    "frozen already": (
        ["module.net.lora={rank:2,alpha:2}", "module.encoder_lr_mult=0.5"],
        "module.encoder_lr_mult=0.5 would change nothing",
        "set module.encoder_lr_mult=1.0",
    ),
    "adapters": (
        ["module.net.lora={rank:2,alpha:2}"],
        "callbacks.freeze_encoder would freeze the adapters",
        "set module.net.lora=null",
    ),
    "idle rate": (
        ["callbacks.freeze_encoder.epochs=null", "module.layer_decay=0.8"],
        "module.layer_decay=0.8 would change nothing, because callbacks.freeze_encoder.epochs=null",
        "set module.layer_decay=1.0",
    ),
    "rate of zero": (["module.encoder_lr_mult=0"], "encoder_lr_mult=0 is not allowed", "above 0"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_it_is_refused_with_the_mend(case, cli, steps, export):
    words, wrong, mend = REFUSALS[case]
    code, said = cli(*SMALL, f"datamodule.root={export}", *FREEZE, *words)
    refused(code, said, steps, wrong, mend)


SCRATCH = "module.net.encoder.weights=null"
RANDOM = {
    "LoRA": (SMALL, ["module.net.lora={rank:2,alpha:2}"], "module.net.lora would", "lora=null"),
    "LoRA of a classifier": (SMALL_LABELS, [SCRATCH], "module.net.lora would", "net=classifier"),
    "linear probe": (
        SMALL_LABELS,
        ["experiment=linear_probe_pneumonia", SCRATCH],
        "module.net.lora=null (a linear probe) would",
        "init_from=RUN",
    ),
}


@pytest.mark.parametrize("case", RANDOM)
def test_random_weights_are_never_frozen(case, cli, steps, export, radiographs):
    base, words, wrong, mend = RANDOM[case]
    root = export if base is SMALL else radiographs
    code, said = cli(*base, f"datamodule.root={root}", *words)
    refused(code, said, steps, f"{wrong} freeze random weights", mend)


def test_a_first_stage_never_freezes_random_weights(cli, steps, thorax):
    stages = "callbacks.curriculum.stages=[{epochs:1,freeze_encoder:true},{epochs:2}]"
    code, said = cli(*SMALL_PNX, f"datamodule.root={thorax}", stages, "trainer.max_epochs=3")
    refused(code, said, steps, "stages[0].freeze_encoder would freeze random", "the first stage")


def test_a_smaller_rate_of_random_weights_is_warned_of(cli, export, tmp_path):
    words = [*SMALL, f"datamodule.root={export}", "module.encoder_lr_mult=0.5", *FIT]
    code, said = cli(*words, "trainer.max_epochs=1")
    assert code == 0 and "module.encoder_lr_mult=0.5 slows the learning of random weights" in said


def test_stages_and_the_callback_are_not_combined(cli, steps, thorax):
    stages = "callbacks.curriculum.stages=[{epochs:3,freeze_encoder:true}]"
    words = [*SMALL_PNX, f"datamodule.root={thorax}", *FREEZE, stages, "trainer.max_epochs=3"]
    code, said = cli(*words)
    refused(
        code, said, steps, "cannot be combined with a curriculum", "freeze_encoder: true in the"
    )


def rank_that_writes_its_weights(rank, world_size, port, words, log: Path) -> None:
    """One of the processes, which writes its own weights at the end of the fit beside its log."""
    own = EncoderFreezing.teardown

    def end(self, trainer, module, stage):
        own(self, trainer, module, stage)
        if stage == "fit":
            torch.save(module.state_dict(), log.with_suffix(".pt"))

    EncoderFreezing.teardown = end  # type: ignore[method-assign]
    one_rank(rank, world_size, port, words, log)


@pytest.mark.slow
def test_two_ranks_train_one_encoder_after_it_is_unfrozen(thorax, tmp_path):
    """Both ranks have the same weights: those of one process with the same images."""
    words = [*WORDS, f"datamodule.root={thorax}", f"paths.cache={tmp_path / 'cache'}", "do=[fit]"]
    ranks(1, [*words, "trainer.max_epochs=1", "datamodule.batch_size=4"], tmp_path / "start")
    words += [f"init_from={tmp_path / 'start'}", "trainer.max_epochs=3", "extra=freeze_encoder"]
    words += ["callbacks.freeze_encoder.epochs=1", "module.encoder_lr_mult=0.5"]
    words += ["module.optimizer._target_=torch.optim.SGD", "module.optimizer.lr=1e-2"]
    target = rank_that_writes_its_weights
    ranks(1, [*words, "datamodule.batch_size=4"], tmp_path / "one", target=target)
    ranks(2, [*words, "datamodule.batch_size=2"], tmp_path / "two", target=target)
    before = read(tmp_path / "start", "best")["state_dict"]
    alone, first, second = (
        torch.load(tmp_path / name, weights_only=True)
        for name in ("one_logs/rank0.pt", "two_logs/rank0.pt", "two_logs/rank1.pt")
    )
    trained = [n for n in alone if n.startswith("net.") and alone[n].is_floating_point()]
    assert all(torch.equal(first[name], second[name]) for name in trained)
    for part in ("net.encoder.", "net.decode_head."):
        names = [name for name in trained if name.startswith(part)]
        moved = max((alone[name] - before[name]).abs().max() for name in names)
        apart = max((alone[name] - first[name]).abs().max() for name in names)
        assert moved > 1e-4 and apart < 1e-2 * moved, part


ADAPTERS = "module.net.lora={rank:4,alpha:16,dropout:0.05}"


@pytest.fixture(scope="module")
def adapted(start, export, tmp_path_factory) -> Path:
    """A run that trains adapters in the encoder of `start`."""
    words = [*SMALL, "trainer.max_epochs=2", "extra=lora_export", ADAPTERS, f"init_from={start}"]
    words += [f"datamodule.root={export}", "datamodule.batches_per_epoch=3"]
    return finish_run(words, tmp_path_factory.mktemp("adapted") / "run")


def test_adapters_of_a_segmentation_network_are_trained_tested_and_exported(
    adapted, start, export, cli, tmp_path
):
    before, after = read(start, "best")["state_dict"], read(adapted, "best")["state_dict"]
    inside = {name for name in after if name.startswith("net.encoder.") and ".lora_" not in name}
    assert all(
        torch.equal(after[name], before[name.replace(".base_layer.", ".")]) for name in inside
    )
    assert any(".lora_B" in name and value.abs().sum() > 0 for name, value in after.items())
    merged = torch.load(adapted / "checkpoints/merged.pt", weights_only=True)
    assert set(merged) == {name.removeprefix("net.") for name in before if name.startswith("net.")}
    report = json.loads((adapted / "report.json").read_text())
    assert report["training"] == {
        "network": "UnetPlusPlus, resnet18, LoRA of rank 4",
        "encoder": "frozen but for its adapters (LoRA)",
        "weights": "",
    }
    page = (adapted / "report.html").read_text()
    for words in ("LoRA of rank 4; ", "frozen but for its adapters", f">{start}<"):
        assert 0 < page.index(words) < page.index("<h2>Curves"), words
    first = pd.read_csv(adapted / "metrics.csv")["test/dice"].dropna().iloc[0]
    words = [f"datamodule.root={export}", "do=[test]", f"ckpt_path={adapted}"]
    code, said = cli(*SMALL, ADAPTERS, *words, folder=tmp_path / "again")
    assert code == 0, said
    assert pd.read_csv(tmp_path / "again/metrics.csv")["test/dice"].iloc[0] == first


@pytest.mark.slow
def test_the_bundle_of_a_network_with_adapters_has_them_merged(adapted, export, cli, tmp_path):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        import_optional(name)
    words = [*SMALL, ADAPTERS, f"datamodule.root={export}", f"ckpt_path={adapted}", "do=bundle"]
    code, said = cli(*words, folder=tmp_path / "bundling")
    assert code == 0, said
    parity = json.loads((adapted / "bundle/parity.json").read_text())
    assert parity["flipped_images"] == 0
