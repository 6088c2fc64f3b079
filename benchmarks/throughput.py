"""Training throughput of this repository beside a plain fp32 loop and a bare step.

This repository's includes loader, Lightning and callbacks.

The plain loop runs in a process of its own, because this repository also sets the allocator of the
process that it is in.

python benchmarks/throughput.py [--task brain|pneumonia] [--root DIR] [--size 256] [--batch 8]
[--precision auto] [--steps 6] [--rounds 3]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from parts import Parts


def bare(module: torch.nn.Module, batch: dict, precision: str, steps: int) -> float:
    """Return the images per second of bare training steps on one batch in memory.

    A step is forward, loss, backward and optimizer.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module.train().to(device)
    image, target = batch["image"].to(device), batch[module.target].to(device)
    optimizer = module.optimizer(
        [parameter for parameter in module.parameters() if parameter.requires_grad]
    )
    start = time.perf_counter()
    for _ in range(steps):
        with torch.autocast(device.type, torch.bfloat16, enabled=precision.startswith("bf16")):
            loss = module.loss(module(image), target).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return steps * len(image) / (time.perf_counter() - start)


PLAIN = """
import json, sys
sys.path.insert(0, sys.argv[1])
from {module} import {name}
loop = {name}(json.load(open(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4]))
loop.run(2)
print(loop.run(int(sys.argv[5])))
"""


BRAIN = (
    "module.net={encoder:{name:resnet34,weights:null},encoder_depth:5,"
    "decoder_channels:[256,128,64,32,16]}"
)
# experiment, plain loop, overrides that make the demo's network the published one, from scratch
TASKS = {
    "brain": ("unetpp_brain_tumor", ("plain_loop", "PlainLoop"), [BRAIN]),
    "pneumonia": (
        "lora_pneumonia",
        ("plain_lora", "PlainLora"),
        [
            "module.net.encoder.name=tf_efficientnetv2_s",
            "~module.net.channels",
            "~module.net.layers",
            "init_from=null",
        ],
    ),
}


def plain(loop: tuple[str, str], rows: Path, size: int, batch: int, steps: int) -> float:
    """Return the images per second of the plain loop, without two steps of warm-up."""
    words = [str(Path(__file__).parent), str(rows), str(size), str(batch), str(steps)]
    code = PLAIN.replace("{module}", loop[0]).replace("{name}", loop[1])
    return float(
        subprocess.run(
            [sys.executable, "-c", code, *words], check=True, capture_output=True, text=True
        ).stdout.split()[-1]
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", choices=list(TASKS), default="brain")
    parser.add_argument("--root", default="")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    experiment, loop, net = TASKS[args.task]
    where = ["scale=demo"] + (
        [f"datamodule.root={args.root}", "datamodule.phantom=null"] if args.root else []
    )
    size = [
        f"image_size={args.size}",
        f"evaluation_size={args.size}",
        f"datamodule.batch_size={args.batch}",
    ]
    with tempfile.TemporaryDirectory() as folder:
        short = (
            f"datamodule.batches_per_epoch={args.steps}",
            "trainer.limit_val_batches=0",
            f"trainer.precision={args.precision}",
        )
        parts = Parts(folder, f"experiment={experiment}", *where, *net, *size, *short)
        rows = parts.data.table.rows
        listed = Path(folder) / "rows.json"
        listed.write_text(json.dumps(rows[rows["split"] == "train"].to_dict("records")))
        first = next(iter(parts.data.train_dataloader()))
        rates: dict[str, list[float]] = {
            "plain fp32 loop": [],
            "bare step": [],
            "this repository": [],
        }
        for round_ in range(args.rounds + 1):
            trainer, callbacks = parts.trainer(max_epochs=1)
            trainer.fit(parts.module, datamodule=parts.data)
            ours = callbacks["resources"].as_dict()["images_per_second"]
            alone = bare(parts.module, first, parts.cfg.trainer.precision, args.steps)
            found = {
                "plain fp32 loop": plain(loop, listed, args.size, args.batch, args.steps),
                "bare step": alone,
                "this repository": ours,
            }
            if round_:  # the first one warms up
                for name, rate in found.items():
                    rates[name].append(rate)
    for name, values in rates.items():
        print(
            f"{name:<18}{statistics.median(values):8.2f} img/s  "
            f" ({', '.join(f'{v:.2f}' for v in values)})"
        )
    ours = rates["this repository"]
    for name in ("plain fp32 loop", "bare step"):
        ratio = statistics.median(a / b for a, b in zip(ours, rates[name], strict=True))
        print(
            f"this repository / {name}: {ratio:.3f}   (median of paired rounds, precision"
            f" {parts.cfg.trainer.precision})"
        )
    if torch.cuda.is_available():
        print(f"peak GPU memory {torch.cuda.max_memory_allocated() / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
