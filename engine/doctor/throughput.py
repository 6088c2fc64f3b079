"""Benchmark of the training step and the data loader, in a subprocess."""

import copy
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning import Fabric
from omegaconf import DictConfig, OmegaConf

from datamodules.base import default_num_workers
from datamodules.brain_tumor import BrainTumorDataModule
from datamodules.image_size import ImageSize
from datamodules.phantoms.brain_tumor import write
from engine.cli import user_message
from engine.doctor.check_result import CheckResult, Issue
from engine.doctor.distributed import ProcessResult, Subprocess
from engine.doctor.environment import requested_weights
from engine.doctor.hardware import (
    accelerator_kind,
    allowed_cores,
    chosen_precision,
    n_devices,
    n_workers,
)
from lightning_modules.base import SupervisedModule
from lightning_modules.hardware import tune_malloc
from lightning_modules.instantiation import instantiate_config
from lightning_modules.library_imports import smp
from lightning_modules.losses import BCELoss
from lightning_modules.segmentation import SegmentationModule

TOO_MANY_PARAMETERS = "too many for a minute on a CPU"
MAX_CPU_PARAMETERS = 40e6  # largest network that is measured on a CPU


def build_network(cfg: DictConfig, device: str) -> tuple[SupervisedModule, dict[str, Any]]:
    """Build the module to measure, and describe it.

    Args:
        cfg: Configuration of the experiment; it is not changed.
        device: Device of the measurement: `cpu`, `cuda` or `mps`.

    Returns:
        The module and a description: `name`, `parameters` and `own` (True if it is the experiment's
            network); if not, `why`, and as `refused` the message of a run's error.
    """
    message: dict[str, Any] = {"own": True, "name": _network_name(cfg.module.net)}
    try:
        module = instantiate_config(_without_weights(cfg).module)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        if parameters > MAX_CPU_PARAMETERS and device == "cpu":
            module, message = _small_network(
                cfg, f"{message['name']} has {parameters / 1e6:.0f} M, {TOO_MANY_PARAMETERS}"
            )
    except Exception as error:
        sentence = user_message(error)
        module, message = _small_network(cfg, f"{type(error).__name__} in {message['name']}")
        message["refused"] = sentence[0] if sentence else None
    return module, {
        **message,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
    }


def _network_name(net: DictConfig) -> str:
    return (
        str(net.architecture)
        if "architecture" in net
        else str(net.encoder.name)
        if "encoder" in net
        else _network_name(net.net)
        if "net" in net
        else str(net._target_).split(".")[-1]
    )


def _without_weights(cfg: DictConfig) -> DictConfig:
    plain = cfg.copy()
    for key, _ in requested_weights(cfg):
        OmegaConf.update(plain, key, None)
    OmegaConf.update(plain, "module.compile", False)  # compiling would take minutes
    return plain


def _small_network(cfg: DictConfig, why: str) -> tuple[SupervisedModule, dict[str, Any]]:
    net = smp.Unet(
        "resnet18",
        encoder_weights=None,
        encoder_depth=3,
        decoder_channels=[64, 32, 16],
        in_channels=cfg.datamodule.channels,
    )
    module = SegmentationModule(
        ["lesion"], net=net, loss=BCELoss(), optimizer=partial(torch.optim.AdamW, lr=1e-4)
    )
    return module, {"own": False, "name": "small U-Net", "why": why}


BATCH_TIMEOUT = 30  # seconds without a batch, after which a loader is considered dead


def loader_images_per_second(
    cfg: DictConfig, size: ImageSize, workers: list[int], seconds: float
) -> Iterator[tuple[int, float]]:
    """Yield each number of loader processes with its rate of training images.

    Args:
        cfg: Configuration with augmentation, channels, batch size and cache size.
        size: Size of the images.
        workers: Numbers of loader processes.
        seconds: Duration of each measurement after the first batch.
    """
    more = (
        ImageSize.from_config(cfg.datamodule.cache_size or cfg.image_size).height
        / ImageSize.from_config(cfg.image_size).height
    )
    pipeline = cfg.datamodule.get("augmentation")
    with tempfile.TemporaryDirectory() as folder:
        data = partial(
            BrainTumorDataModule,
            root=f"{folder}/phantoms",
            cache_dir=f"{folder}/cache",
            image_size=size,
            cache_size=[round(side * more) for side in size],
            evaluation_size=max(size),
            batch_size=min(cfg.datamodule.batch_size, 16),
            batches_per_epoch=10_000,
            channels=cfg.datamodule.channels,
            allow_leaks=True,
            phantom=_phantom_datamodule,
        )
        for count in workers:
            yield (
                count,
                _measure_rate(
                    data(
                        augmentation=instantiate_config(pipeline) if pipeline else None,
                        num_workers=count,
                    ),
                    seconds,
                ),
            )


def _phantom_datamodule(root: Path) -> None:
    write(root, train=24, valid=2, test=2, size=128)


def _measure_rate(data: BrainTumorDataModule, seconds: float) -> float:
    loader = data.train_dataloader()
    loader.timeout = BATCH_TIMEOUT if loader.num_workers else 0
    batches = iter(loader)
    next(batches)
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        images += len(next(batches)["image"])
    return images / (time.perf_counter() - start)


PIXELS = 2 * 256**2  # pixels of a batch on a CPU, which is slow


@dataclass(frozen=True)
class StepBenchmark:
    """Setting of one measurement.

    Attributes:
        device: `cpu`, `cuda` or `mps`.
        index: Index of the device.
        precision: Precision of the Trainer.
        images: Number of images in a batch.
        image_size: Size of the images.
        channels: Channels of the images.
    """

    device: str
    index: int
    precision: str
    images: int
    image_size: ImageSize
    channels: int


def batch_size(asked: int, size: ImageSize, device: str) -> int:
    """Return the configured batch size; on a CPU it is limited to `PIXELS`, but at least two.

    Batch normalization needs two images.
    """
    return asked if device != "cpu" else min(asked, max(2, PIXELS // (size.height * size.width)))


def step_images_per_second(
    module: SupervisedModule, setting: StepBenchmark, seconds: float
) -> float:
    """Measure images per second of forward, loss, backward and optimizer on a batch of noise.

    The batch is on the device already; the rate is that of the median step after a warm-up.

    Args:
        module: Module, which is not changed.
        setting: Setting of the measurement.
        seconds: Time limit including the warm-up; at least two steps are measured.
    """
    devices = 1 if setting.device == "cpu" else [setting.index]
    fabric = Fabric(accelerator=setting.device, devices=devices, precision=setting.precision)  # type: ignore[arg-type]
    own = copy.deepcopy(module).train()
    own.log = lambda *_, **__: None  # type: ignore[method-assign]  # there is no Trainer to log to
    optimizer = own.optimizer(
        [parameter for parameter in own.parameters() if parameter.requires_grad]
    )
    learner, optimizer = fabric.setup(own, optimizer)
    batch = _random_batch(module, setting, fabric.device)

    def run_step() -> None:
        """Run one training step."""
        with fabric.autocast():  # on one device Fabric applies the precision only to `forward`
            loss = learner.training_step(batch, 0)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        float(loss.detach())  # synchronizes with the device

    return setting.images / _median_seconds(run_step, seconds)


def _random_batch(
    module: SupervisedModule, setting: StepBenchmark, device: torch.device
) -> dict[str, Any]:
    random, images, size = torch.Generator().manual_seed(0), setting.images, setting.image_size
    classes = len(getattr(module, "classes", ["lesion"]))
    batch: dict[str, Any] = {
        "image": torch.randint(
            0, 256, (images, setting.channels, *size), dtype=torch.uint8, generator=random
        )
    }
    if module.target == "mask":
        batch["mask"] = torch.randint(
            0, 2, (images, classes, *size), dtype=torch.uint8, generator=random
        )
    else:
        batch["label"] = torch.eye(max(2, classes))[
            torch.arange(images) % max(2, classes), :classes
        ]
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _median_seconds(step: Callable[[], None], seconds: float) -> float:
    taken: list[float] = []
    start = time.perf_counter()
    step()
    if time.perf_counter() - start < seconds / 4:
        step()  # the first one also chooses kernels
    while not taken or (len(taken) < 10 and time.perf_counter() - start < seconds):
        before = time.perf_counter()
        step()
        taken.append(time.perf_counter() - before)
    return median(taken)


STEP_SECONDS = {"cpu": 3.0, "cuda": 1.5, "mps": 2.0}  # time limit per device and precision
LOADER_SECONDS = 1.5
FULL_PRECISION = "32-true"
MAX_CPU_IMAGE_SIDE = 256  # longest side in pixels of the images that are measured on a CPU


def main() -> None:
    """Read a resolved configuration from stdin, and print each measurement as a line of JSON.

    Lines are printed immediately, so that they are kept if the process dies.
    """
    warnings.filterwarnings("ignore")
    tune_malloc()
    torch.set_float32_matmul_precision("high")
    cfg = OmegaConf.create(sys.stdin.read())
    assert isinstance(cfg, DictConfig)
    torch.backends.cudnn.benchmark = bool(cfg.trainer.benchmark)
    for line in (*measure_loaders(cfg), *measure_steps(cfg)):
        print(json.dumps(line), flush=True)


def image_size_on(cfg: DictConfig, device: str) -> ImageSize:
    """Return the image size; on a CPU a smaller one of the same aspect ratio."""
    asked = ImageSize.from_config(cfg.image_size)
    smaller = MAX_CPU_IMAGE_SIDE / max(asked)
    return (
        asked
        if device != "cpu" or smaller >= 1
        else ImageSize.from_config([max(32, round(side * smaller / 32) * 32) for side in asked])
    )


def measure_loaders(cfg: DictConfig) -> Iterator[dict[str, Any]]:
    """Yield `loader` lines (`workers`, `image_size`, `images_per_second`), or a `failed` one."""
    size, counts = (
        image_size_on(cfg, accelerator_kind(cfg)),
        sorted({0, default_num_workers(), n_workers(cfg)}),
    )
    try:
        for count, rate in loader_images_per_second(cfg, size, counts, LOADER_SECONDS):
            yield {
                "line": "loader",
                "workers": count,
                "image_size": size.as_config,
                "images_per_second": rate,
            }
    except Exception as error:
        yield {"line": "failed", "of": "the loader", "why": short_error(error)}


def measure_steps(cfg: DictConfig) -> Iterator[dict[str, Any]]:
    """Yield `network` lines with a `device`, and `step` or `failed` lines of each setting.

    `step` lines have `images_per_second`.
    """
    built: dict[str, SupervisedModule] = {}
    for device, index in available_devices():
        if device not in built:
            built[device], message = build_network(cfg, device)
            yield {"line": "network", "device": device, **message}
        size, chosen = image_size_on(cfg, device), chosen_precision(cfg, device)
        images = batch_size(cfg.datamodule.batch_size, size, device)
        for precision in dict.fromkeys(
            (FULL_PRECISION, FULL_PRECISION if chosen == "32" else chosen)
        ):
            setting = StepBenchmark(device, index, precision, images, size, cfg.datamodule.channels)
            said_of = asdict(setting) | {"image_size": size.as_config}
            try:
                yield {
                    "line": "step",
                    **said_of,
                    "images_per_second": step_images_per_second(
                        built[device], setting, STEP_SECONDS[device]
                    ),
                }
            except Exception as error:
                yield {
                    "line": "failed",
                    **said_of,
                    "of": "a step",
                    "why": short_error(error),
                    "memory": isinstance(error, torch.OutOfMemoryError),
                }
            if device == "cuda":
                torch.cuda.empty_cache()


def available_devices() -> list[tuple[str, int]]:
    """List the devices that can be measured: the CPU, each GPU, MPS."""
    gpus = (
        [("cuda", index) for index in range(torch.cuda.device_count())]
        if torch.cuda.is_available()
        else []
    )
    return [("cpu", 0), *gpus, *([("mps", 0)] if torch.backends.mps.is_available() else [])]


def short_error(error: Exception) -> str:
    """Format an exception in one line; an OSError without the name of the file."""
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{type(error).__name__}: {' '.join(message.split())[:120]}"


SPEED_SECONDS = 120.0
TOLERANCE = 0.9  # ratio of rates below which a difference exceeds the noise of a busy machine
MEASUREMENT_NAMES = {"cpu": "CPU", "cuda": "GPU", "mps": "MPS"}
BenchmarkLines = list[dict[str, Any]]


def start_benchmark() -> Subprocess:
    """Start the benchmark process, which imports its modules and waits for a configuration."""
    return Subprocess("engine.doctor.throughput")


def evaluate_speed(cfg: DictConfig, child: Subprocess) -> CheckResult:
    """Run the measurements in the started process, and evaluate the rates."""
    outcome = child.result(SPEED_SECONDS, given=OmegaConf.to_yaml(cfg, resolve=True))
    lines = [json.loads(line) for line in outcome.stdout.splitlines() if line.startswith('{"line"')]
    message, findings = evaluate_benchmark(cfg, lines)
    return CheckResult(message, {"measured": lines}, (*_benchmark_result(outcome), *findings))


def _benchmark_result(outcome: ProcessResult) -> list[Issue]:
    if outcome.code == 0:
        return []
    if outcome.code == -9:
        fix = "lower datamodule.batch_size or image_size, or ask for more memory"
        return [
            Issue(
                "stops a run",
                "the measurement of a small step was killed by the system, as it does when memory"
                " runs out",
                fix,
            )
        ]
    why = (
        f"took more than {SPEED_SECONDS:.0f} s"
        if outcome.code is None
        else f"ended early ({outcome.error[:120] or f'code {outcome.code}'})"
    )
    return [
        Issue(
            "warning",
            f"the measurement of step and loader {why}",
            "run do=doctor again when the machine is idle",
        )
    ]


def evaluate_benchmark(
    cfg: DictConfig, lines: BenchmarkLines
) -> tuple[dict[str, str], list[Issue]]:
    """Describe the measurements, and find their issues.

    Args:
        cfg: Configuration of the run.
        lines: Lines that the subprocess printed.
    """
    of: dict[str, BenchmarkLines] = {
        name: [line for line in lines if line["line"] == name]
        for name in ("network", "step", "loader", "failed")
    }
    message: dict[str, str] = {}
    for net in of["network"]:
        words = f"{net['name']}, {net['parameters'] / 1e6:.1f} M parameters"
        message[f"network, {MEASUREMENT_NAMES[net['device']]}"] = (
            words if net["own"] else f"{words} ({net['why']})"
        )
    for step in of["step"]:
        name = f"step, {MEASUREMENT_NAMES[step['device']]}" + (
            f" {step['index']}" if step["device"] == "cuda" else ""
        )
        text = f"{step['precision']} {step['images_per_second']:,.1f} images/s"
        message[name] = (
            f"{message[name]}, {text}"
            if name in message
            else f"{step['images']} x {ImageSize.from_config(step['image_size'])} px: {text}"
        )
    if of["loader"]:
        each = [
            f"{_format_workers(line['workers'])} {line['images_per_second']:,.0f} images/s"
            for line in of["loader"]
        ]
        message["loader"] = (
            f"{ImageSize.from_config(of['loader'][0]['image_size'])} px: {', '.join(each)}"
        )
    limit, slow = _time_limit(cfg, of["step"], of["loader"])
    if any(net["device"] == accelerator_kind(cfg) and not net["own"] for net in of["network"]):
        limit, slow = "unknown, because the step is not that of the experiment's own network", []
    message |= {"limit": limit} if limit else {}
    return message, [
        *_network_line(of["network"]),
        *_failed_measurements(cfg, of["failed"], of["network"]),
        *_compare_precision(cfg, of["step"]),
        *slow,
    ]


def _format_workers(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"


def _step_times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:,.0f} times"


def _network_line(networks: BenchmarkLines) -> list[Issue]:
    found: list[Issue] = []
    for net in networks:
        if net.get("refused"):
            what, _, fix = net["refused"].rpartition("; ")
            found.append(Issue("stops a run", what, fix))
        elif not net["own"] and TOO_MANY_PARAMETERS not in net["why"]:
            fix = "see why with trainer.fast_dev_run=true"
            found.append(
                Issue(
                    "warning",
                    f"the experiment's own network could not be tried ({net['why']})",
                    fix,
                )
            )
    return found


def _failed_measurements(
    cfg: DictConfig, failures: BenchmarkLines, networks: BenchmarkLines
) -> list[Issue]:
    own, found = {net["device"] for net in networks if net["own"]}, []
    for line in failures:
        if line["of"] != "a step":
            found.append(
                Issue(
                    "warning",
                    f"{line['of']} could not be measured ({line['why']})",
                    "try datamodule.num_workers=0",
                )
            )
        elif line.get("memory"):
            meant = (
                line["device"] in own
                and line["device"] == accelerator_kind(cfg)
                and line["precision"] == chosen_precision(cfg, accelerator_kind(cfg))
            )
            of = (
                f"{line['images']} images of {ImageSize.from_config(line['image_size'])} px in"
                f" {line['precision']}"
            )
            what = f"a step of {of} does not fit into the memory of the GPU"
            fix = "lower datamodule.batch_size and raise trainer.accumulate_grad_batches as much"
            found += [Issue("stops a run", what, fix)] if meant else []
        else:
            what = (
                f"a step on the {MEASUREMENT_NAMES[line['device']]} in {line['precision']} fails"
                f" ({line['why']})"
            )
            found.append(Issue("warning", what, "see where with trainer.fast_dev_run=true"))
    return found


def _compare_precision(cfg: DictConfig, steps: BenchmarkLines) -> list[Issue]:
    of = accelerator_kind(cfg)
    rates = {
        line["precision"]: line["images_per_second"]
        for line in reversed(steps)
        if line["device"] == of
    }
    chosen = chosen_precision(cfg, of)
    if (
        FULL_PRECISION not in rates
        or rates.get(chosen, rates[FULL_PRECISION]) > TOLERANCE * rates[FULL_PRECISION]
    ):
        return []
    what = (
        f"{chosen} is chosen, but {rates[chosen]:,.1f} images/s are fewer than the"
        f" {rates[FULL_PRECISION]:,.1f} of {FULL_PRECISION} here"
    )
    return [Issue("warning", what, f"take trainer.precision={FULL_PRECISION}")]


def _time_limit(
    cfg: DictConfig, steps: BenchmarkLines, loaders: BenchmarkLines
) -> tuple[str, list[Issue]]:
    of = accelerator_kind(cfg)
    rates = [
        line["images_per_second"]
        for line in steps
        if line["device"] == of and line["precision"] == chosen_precision(cfg, of)
    ]
    serving = [line["images_per_second"] for line in loaders if line["workers"] == n_workers(cfg)]
    if not rates or not serving:
        return "", []
    taken, served = rates[0], serving[0]  # both for one device, which has a loader of its own
    if served >= taken:
        return f"the step: the loader is {_step_times(served / taken)} as fast", []
    what = (
        f"the loader gives {served:,.0f} images/s with {_format_workers(n_workers(cfg))}, and a"
        f" device could take {taken:,.0f}"
    )
    best = max(loaders, key=lambda line: line["images_per_second"])
    more = max(n_workers(cfg) + 1, round(n_workers(cfg) * taken / served))
    if best["images_per_second"] > 1.1 * served:
        fix = f"take datamodule.num_workers={best['workers']}"
    elif more * n_devices(cfg) <= allowed_cores():
        fix = f"try datamodule.num_workers={more}"
    else:
        fix = "ask for more cores, or make the augmentation lighter"
    return f"the loader: the step is {_step_times(taken / served)} as fast", [
        Issue("warning", what, fix)
    ]


if __name__ == "__main__":
    main()
