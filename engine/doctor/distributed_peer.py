"""Peer process that exchanges tensors; it imports only torch, so that it starts fast."""

import sys
import time
from datetime import timedelta
from statistics import median

import torch
from torch import distributed

N_NUMBERS = 1_000_000  # float32 numbers, that is, 4 MB per exchange


PEER_SECONDS = 30


def main() -> None:
    """Join the group, sum numbers over it, and print the rate in MB per second."""
    backend, rank, processes, port = sys.argv[1], *map(int, sys.argv[2:])
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    where = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group(
        backend, where, timedelta(seconds=PEER_SECONDS), rank=rank, world_size=processes
    )
    seconds = [_exchange_tensors(device, rank, processes) for _ in range(6)]
    distributed.destroy_process_group()
    print(N_NUMBERS * 4 / 1e6 / median(seconds[1:]))


def _exchange_tensors(device: torch.device, rank: int, processes: int) -> float:
    numbers = torch.full((N_NUMBERS,), rank + 1.0, device=device)
    distributed.barrier()
    start = time.perf_counter()
    distributed.all_reduce(numbers)
    total = float(numbers[0])  # synchronizes with the device
    seconds = time.perf_counter() - start
    if total != processes * (processes + 1) / 2:
        raise RuntimeError(f"the sum over {processes} processes came out as {total:g}")
    return seconds


if __name__ == "__main__":
    main()
