"""run.py started as several ranks, as torchrun would, from a process that has done the imports."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = [
    "run",
    "engine.tasks",
    "callbacks.curriculum.curriculum",
    "lightning_modules.networks.upernet",
    "transformers.models.upernet",
    "timm",
]


def one_rank(rank: int, world_size: int, port: int, words: list[str], log: Path) -> None:
    """One of the processes; what it prints stands in `log`."""
    names = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": world_size,
        "LOCAL_WORLD_SIZE": world_size,
        "GROUP_RANK": 0,
        "GROUP_WORLD_SIZE": 1,
    }
    os.environ.update({name: str(value) for name, value in names.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_RUN_ID="test")
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    import run

    torch.set_num_threads(1)
    sys.argv = ["run.py", *words]
    run.main()


def start(
    world_size: int, words: list[str], logs: Path, target: Callable[..., None] = one_rank
) -> list[BaseProcess]:
    """Starts all ranks, each with `target`; they inherit the environment of now."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logs.mkdir(parents=True, exist_ok=True)
    processes = [
        context.Process(
            target=target, args=(rank, world_size, port, words, logs / f"rank{rank}.log")
        )
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    return processes


def ranks(
    world_size: int,
    words: list[str],
    folder: Path,
    seconds: float = 300,
    target: Callable[..., None] = one_rank,
) -> str:
    """Runs to the end; what all ranks printed. None may fail."""
    words = [*words, f"trainer.devices={world_size}", f"hydra.run.dir={folder}"]
    logs = folder.parent / f"{folder.name}_logs"
    processes = start(world_size, words, logs, target)
    for process in processes:
        process.join(seconds)
    said = "\n".join(path.read_text() for path in sorted(logs.glob("*.log")))
    assert [process.exitcode for process in processes] == [0] * world_size, said
    return said
