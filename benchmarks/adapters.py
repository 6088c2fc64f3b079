"""Savings of LoRA and the linear probe beside full fine-tuning.

Measured are peak memory of training, gradients held, and size of a checkpoint. Each variant trains
a few steps in a process of its own, on phantom radiographs; memory is what the process gained since
its network was built.

python benchmarks/adapters.py [--size 384] [--batch 8] [--steps 3]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import torch
from lightning import Callback
from parts import Parts

NET = [
    "module.net.encoder.name=tf_efficientnetv2_s",
    "~module.net.channels",
    "~module.net.layers",
]
COMMON = [
    "scale=demo",
    "experiment=lora_pneumonia",
    "init_from=null",
    "trainer.limit_val_batches=1",
]
VARIANTS = {
    "full": [
        "module/net=classifier",
        "~module.net.net",
        "module.net.encoder.name=tf_efficientnetv2_s",
        "module.net.encoder.weights=null",
    ],
    "lora": NET,
    "lora, adapter alone": [*NET, "module.net.checkpoint=adapter"],
    "linear probe": [*NET, "module.net.lora=null"],
}


class Gradients(Callback):
    """Callback that counts the gradients held when the optimizer is about to step."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        """Count here, because after a fit gradients are gone."""
        held = [p for p in pl_module.parameters() if p.grad is not None]
        self.bytes, self.frozen = (
            sum(p.grad.numel() * 4 for p in held),
            sum(not p.requires_grad for p in held),
        )


def variant(name: str, size: int, batch: int, steps: int) -> dict:
    """Train and measure one variant in this process."""
    short = [
        f"image_size={size}",
        f"datamodule.batch_size={batch}",
        f"datamodule.batches_per_epoch={steps}",
        "trainer.max_epochs=1",
    ]
    with tempfile.TemporaryDirectory() as folder:
        parts = Parts(folder, *COMMON, *short, *VARIANTS[name])
        process = psutil.Process()
        before = process.memory_info().rss
        trainer, callbacks = parts.trainer()
        held = Gradients()
        trainer.callbacks.append(held)
        trainer.fit(parts.module, datamodule=parts.data)
        peak = callbacks["resources"].as_dict()["peak_memory_gb"]
        weights = Path(folder) / "weights.pt"
        torch.save({"state_dict": parts.module.state_dict()}, weights)
        found = {
            "gained_gb": peak - before / 1e9,
            "gradients_mb": held.bytes / 1e6,
            "frozen_with_gradient": held.frozen,
        }
        found |= {
            "weights_mb": weights.stat().st_size / 1e6,
            "checkpoint_mb": (Path(folder) / "checkpoints/last.ckpt").stat().st_size / 1e6,
        }
        if torch.cuda.is_available():
            found["gpu_peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
        return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--variant", choices=list(VARIANTS))
    args = parser.parse_args()
    if args.variant:
        print(json.dumps(variant(args.variant, args.size, args.batch, args.steps)))
        return
    for name in VARIANTS:
        words = [
            sys.executable,
            __file__,
            "--variant",
            name,
            "--size",
            str(args.size),
            "--batch",
            str(args.batch),
            "--steps",
            str(args.steps),
        ]
        message = subprocess.run(
            words, check=True, capture_output=True, text=True
        ).stdout.splitlines()[-1]
        print(
            f"{name:<22}"
            + "  ".join(f"{key} {value:,.2f}" for key, value in json.loads(message).items()),
            flush=True,
        )


if __name__ == "__main__":
    main()
