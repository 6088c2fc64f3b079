"""Weak scaling predicted beyond this machine: images per second of 1 to 64 GPUs.

It follows from the time of a step on one GPU and the bytes of its gradients.

python benchmarks/scaling.py [--step SECONDS | --measure] [--batch 4] [--accumulate 1] [--gpus 1 2 4
8 16 32 64] [--nodes-of 8 1]

Parameters and floating-point operations are counted from the network of experiment=upernet_pnx
(UPerNet with Swin-B, 512 px). Without --step or --measure the step's time is ASSUMED: its
operations by a rate that an H100 might sustain. Bandwidths and latencies are assumed always.
"""

import argparse
from dataclasses import dataclass, replace

import parts  # noqa: F401  (puts the repository on the path)
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch.utils.flop_counter import FlopCounterMode

import run
from datamodules.image_size import ImageSize
from engine.doctor.throughput import StepBenchmark, step_images_per_second
from lightning_modules.hardware import best_precision
from lightning_modules.instantiation import instantiate_config

# DDP's bucket_cap_mb; its first and last buckets are in truth smaller or larger
BUCKET = 25 * 2**20
# assumed: operations per second that an H100 sustains on this network in bf16, a fifth of its
# nominal 989e12
H100 = 200e12
REACHED = 0.8  # assumed: share of a link's nominal rate that an all-reduce reaches


@dataclass(frozen=True)
class Link:
    """Nominal speed of a link.

    Attributes:
        name: Its name in the table.
        rate: Bytes per second in one direction, of a GPU (NVLink) or of a whole node.
        latency: Seconds of a message (assumed).
    """

    name: str
    rate: float
    latency: float


NVLINK = Link("NVLink", 450e9, 3e-6)
NETWORKS = (
    Link("InfiniBand 8 x NDR", 8 * 400e9 / 8, 5e-6),
    Link("InfiniBand HDR", 200e9 / 8, 5e-6),
    Link("10 GbE", 10e9 / 8, 50e-6),
)


@dataclass(frozen=True)
class Work:
    """A step on one GPU.

    Attributes:
        seconds: Seconds for forward, loss, backward and optimizer.
        backward: Share of that which is the backward pass; gradients become ready evenly over it.
        gradients: Bytes to all-reduce.
        images: That one GPU sees.
        accumulate: Steps to one all-reduce.
    """

    seconds: float
    backward: float
    gradients: float
    images: int
    accumulate: int


def ring(size: float, ranks: int, link: Link) -> float:
    """Return the seconds of an all-reduce of `size` bytes on a ring.

    Each rank sends 2 (n - 1) / n of them in 2 (n - 1) messages.
    """
    return 2 * (ranks - 1) / ranks * size / (link.rate * REACHED) + 2 * (ranks - 1) * link.latency


def all_reduce(size: float, gpus: int, a_node: int, network: Link) -> float:
    """Return the seconds of an all-reduce in two levels.

    These are reduce-scatter within each node, rings over the nodes of the GPUs of one number, and
    all-gather within each node. The rings over the nodes run at once: together they carry `size`
    bytes and share the node's bandwidth.
    """
    inside, nodes = min(gpus, a_node), -(-gpus // a_node)
    return (ring(size, inside, NVLINK) if inside > 1 else 0.0) + (
        ring(size, nodes, network) if nodes > 1 else 0.0
    )


def exposed(work: Work, gpus: int, a_node: int, network: Link) -> float:
    """Return the seconds by which communication outlasts the backward pass.

    A bucket is sent when it is ready and the one before is through.
    """
    whole, rest = divmod(work.gradients, BUCKET)
    buckets = [float(BUCKET)] * int(whole) + [rest] * (rest > 0)
    backward, ready, done = work.seconds * work.backward, 0.0, 0.0
    for size in buckets:
        ready += backward * size / work.gradients
        done = max(done, ready) + all_reduce(size, gpus, a_node, network)
    return done - backward


def scaled(work: Work, gpus: int, a_node: int, network: Link) -> tuple[float, float]:
    """Return the efficiency relative to one GPU, and the images per second of all."""
    alone = work.seconds * work.accumulate
    together = alone + (exposed(work, gpus, a_node, network) if gpus > 1 else 0.0)
    return alone / together, gpus * work.images * work.accumulate / together


def table(work: Work, gpus: list[int], a_node: int) -> str:
    """Return Markdown with a row for each number of GPUs; within one node no network is needed."""
    head = ["GPUs", *([NVLINK.name] if a_node > 1 else []), *(network.name for network in NETWORKS)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for number in gpus:
        cells = [
            f"{100 * share:.1f} %, {rate:,.0f}"
            for share, rate in (scaled(work, number, a_node, network) for network in NETWORKS)
        ]
        if a_node > 1:
            cells = [cells[0], *[""] * len(NETWORKS)] if number <= a_node else ["", *cells]
        lines.append(f"| {number} | {' | '.join(cells)} |")
    return "\n".join(lines)


def counted(cfg: DictConfig, images: int) -> tuple[int, float, float]:
    """Count trainable parameters, operations of a step, and the share of the backward pass.

    The network is on the meta device and takes no memory.
    """
    with torch.device("meta"):
        net = instantiate_config(cfg.module.net).train()
        with FlopCounterMode(display=False) as counter:
            outputs = net(
                torch.empty(images, cfg.datamodule.channels, *ImageSize.from_config(cfg.image_size))
            )
            forward = counter.get_total_flops()
            sum(output.sum() for output in outputs).backward()
    return (
        sum(p.numel() for p in net.parameters() if p.requires_grad),
        counter.get_total_flops(),
        1 - forward / counter.get_total_flops(),
    )


def measured(cfg: DictConfig, images: int) -> float:
    """Return the seconds of a step on the first device, in the precision a run would choose."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    setting = StepBenchmark(
        device,
        0,
        best_precision("auto"),
        images,
        ImageSize.from_config(cfg.image_size),
        cfg.datamodule.channels,
    )
    return images / step_images_per_second(instantiate_config(cfg.module), setting, 90.0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--step", type=float, default=None)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--nodes-of", type=int, nargs="+", default=[8, 1])
    args = parser.parse_args()
    with initialize_config_dir(str(run.CONF)):
        cfg = compose(
            "run",
            ["experiment=upernet_pnx", "paths.run=.", "title=benchmark", "module.net.weights=null"],
        )
    parameters, operations, backward = counted(cfg, args.batch)
    seconds = args.step or (measured(cfg, args.batch) if args.measure else operations / H100)
    origin = (
        "given"
        if args.step
        else "measured here"
        if args.measure
        else f"ASSUMED, {H100 / 1e12:.0f} TFLOP a second"
    )
    step = (
        f"{operations / 1e12:.2f} TFLOP a step of {args.batch} images, {backward:.0%} of them"
        " backward"
    )
    print(
        f"counted: {parameters:,} parameters that learn, gradients of {4 * parameters:,} bytes in"
        f" fp32; {step}"
    )
    print(f"a step on one GPU: {1000 * seconds:.1f} ms ({origin})")
    print(
        f"assumed: {REACHED:.0%} of the nominal rates; no stragglers, no slower computing beside"
        " communication, loaders that keep up"
    )
    fp32 = Work(seconds, backward, 4.0 * parameters, args.batch, args.accumulate)
    for a_node in args.nodes_of:
        for name, work in (
            ("fp32", fp32),
            ("compressed to bf16", replace(fp32, gradients=2.0 * parameters)),
        ):
            print(
                f"\nnodes of {a_node}, gradients {name}: efficiency, images a"
                f" second\n\n{table(work, args.gpus, a_node)}"
            )


if __name__ == "__main__":
    main()
