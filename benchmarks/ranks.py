"""Two ranks of one thread each beside one process of two threads, at the same global batch.

Measured are images per second, and the bytes that a step sends. Each variant is a command line in
processes of its own, in turns; the rate is the one of report.json, the median over epochs. Two
cores must be free: a thread of the single process that has to wait for another program makes the
whole step wait.

python benchmarks/ranks.py [--experiment upernet_pnx] [--batch 8] [--steps 20] [--epochs 4]
[--rounds 3] [KEY=VALUE ...]
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning import Callback
from parts import Parts
from torch.distributed import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from lightning_modules.hardware import ddp_strategy

ROOT = Path(__file__).parent.parent
BARE = [
    "callbacks=[graceful_shutdown,nonfinite_loss,sampling_monitor,resources,report]",
    "callbacks.report.cases=0",
    "trainer.limit_val_batches=0",
]
NETWORK = [
    "image_size=128",
    "evaluation_size=128",
    "module.net.backbone.depths=[2,2,2,2]",
    "module.net.hidden_size=64",
]  # of upernet_pnx


def rate(ranks: int, words: list[str], batch: int, folder: Path) -> float:
    """Return the images per second of all ranks together, without start-up.

    The two threads are shared out evenly among the ranks.
    """
    own = [
        f"trainer.devices={ranks}",
        f"datamodule.batch_size={batch // ranks}",
        "trainer.limit_test_batches=1",
        f"hydra.run.dir={folder}",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": str(2 // ranks)}
    command = [sys.executable, "run.py", *words, *own]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads((folder / "report.json").read_text())["resources"]["images_per_second"]


class Sent(Callback):
    """Callback that counts the bytes that DDP sends in the last step.

    These are the buckets of the all-reduce, and the buffers broadcast before each forward pass.
    """

    def __init__(self) -> None:
        self.buckets: list[int] = []
        self.buffers = self.gradients = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Register the hook here, because Lightning passes hooks on for GPUs alone.

        DDP accepts one until its first backward pass.
        """
        ddp = trainer.strategy.model
        ddp.register_comm_hook(None, self.hook)
        self.buffers = (
            sum(buffer.nbytes for buffer in ddp.modules_buffers) if ddp.broadcast_buffers else 0
        )
        self.gradients = sum(
            parameter.nbytes for parameter in pl_module.parameters() if parameter.requires_grad
        )

    def on_train_batch_start(self, *about: Any) -> None:
        """Forget the step before, so that only the last step is kept."""
        self.buckets = []

    def hook(self, state: None, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        """Count a bucket, then average it over the ranks as DDP would."""
        self.buckets.append(bucket.buffer().nbytes)
        return allreduce_hook(None, bucket)


def one_rank(rank: int, words: list[str], port: int, folder: str) -> None:
    """Run one of two processes that train for three steps.

    DDP rebuilds its buckets after the first step.
    """
    names = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "GROUP_RANK": 0,
        "WORLD_SIZE": 2,
        "LOCAL_WORLD_SIZE": 2,
        "MASTER_ADDR": "127.0.0.1",
    }
    names |= {"MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "benchmark"}
    os.environ.update({name: str(value) for name, value in names.items()})
    os.chdir(ROOT)
    torch.set_num_threads(1)
    parts = Parts(
        folder,
        *words,
        "trainer.devices=2",
        "datamodule.batch_size=2",
        "datamodule.batches_per_epoch=3",
        "trainer.max_epochs=1",
    )
    trainer, callbacks = parts.trainer(strategy=parts.make(ddp_strategy(parts.module)))
    sent = Sent()
    trainer.callbacks = [callbacks["graceful_shutdown"], sent]
    trainer.fit(parts.module, datamodule=parts.data)
    if rank == 0:
        Path(folder, "sent.json").write_text(
            json.dumps([sent.buckets, sent.buffers, sent.gradients])
        )


def sent_bytes(words: list[str], folder: Path) -> tuple[list[int], int, int]:
    """Return the bytes of each bucket, of the buffers, and of the trainable parameters."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir()
    torch.multiprocessing.spawn(one_rank, (words, port, str(folder)), nprocs=2)
    return tuple(json.loads((folder / "sent.json").read_text()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--experiment", default="upernet_pnx")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("words", nargs="*")
    args = parser.parse_args()
    words = [
        f"experiment={args.experiment}",
        "scale=demo",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
        *BARE,
        *(NETWORK if args.experiment == "upernet_pnx" else ()),
        *args.words,
    ]
    length = [f"trainer.max_epochs={args.epochs}", f"datamodule.batches_per_epoch={args.steps}"]
    rates: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        buckets, buffers, gradients = sent_bytes(words, Path(folder, "sent"))
        for round_ in range(args.rounds):
            for ranks in (1, 2) if round_ % 2 else (2, 1):
                rates[ranks].append(
                    rate(ranks, [*words, *length], args.batch, Path(folder, f"{round_}of{ranks}"))
                )
    for ranks, name in ((1, "one process, two threads"), (2, "two ranks, one thread each")):
        print(
            f"{name:<28}{statistics.median(rates[ranks]):8.2f} img/s  "
            f" ({', '.join(f'{found:.2f}' for found in rates[ranks])})"
        )
    ratio = statistics.median(two / one for one, two in zip(rates[1], rates[2], strict=True))
    print(
        f"two ranks / one process: {ratio:.3f}   (median of {args.rounds} paired rounds,"
        f" {args.batch} images a step)"
    )
    reduced = sum(buckets)
    print(
        f"a step all-reduces {reduced:,} bytes in {len(buckets)} buckets; the parameters that learn"
        f" are {gradients:,}: {reduced / gradients:.3f} x"
    )
    print(
        f"on a ring of n ranks each sends 2 (n - 1) / n of them, here {reduced:,}; besides, DDP"
        f" broadcasts {buffers:,} bytes of buffers a step"
    )


if __name__ == "__main__":
    main()
