"""Check with two processes whether gloo (CPU) and NCCL (GPUs) can exchange gradients here."""

import os
import re
import socket
import time

import torch
from omegaconf import DictConfig

from callbacks.doctor.child import Child, Outcome
from callbacks.doctor.devices import kind, number
from callbacks.doctor.finding import Answer, Finding

SECONDS = 45.0  # most of it is importing torch on a busy machine


def gloo(cfg: DictConfig) -> Answer:
    """Check gloo with two processes on the CPU."""
    outcomes = together("gloo", 2)
    found = _findings(
        "gloo", outcomes, _mend_of_gloo(), needed=_several(cfg) and kind(cfg) == "cpu"
    )
    if not found and cfg.trainer.num_nodes > 1 and not resolves():
        what = (
            f"the host name does not resolve, by which {cfg.trainer.num_nodes} nodes find each"
            " other"
        )
        found = (
            Finding(
                "stops a run",
                what,
                "add it to /etc/hosts, or set GLOO_SOCKET_IFNAME to the network's interface",
            ),
        )
    return _answer("gloo", outcomes, found)


def nccl(cfg: DictConfig) -> Answer:
    """Check NCCL with two processes on two GPUs, where there are two."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus < 2 or not torch.distributed.is_nccl_available():
        why = "this torch build has none" if gpus > 1 else "it takes two GPUs"
        return Answer({"NCCL": f"not tried: {why}"}, {"tried": False})
    outcomes = together("nccl", 2)
    mend = (
        "run with NCCL_DEBUG=INFO to see why; NCCL_P2P_DISABLE=1, NCCL_SHM_DISABLE=1 or"
        " NCCL_SOCKET_IFNAME=lo mend most"
    )
    return _answer(
        "NCCL",
        outcomes,
        _findings("NCCL", outcomes, mend, needed=_several(cfg) and kind(cfg) == "cuda"),
    )


def together(backend: str, processes: int, seconds: float = SECONDS) -> list[Outcome]:
    """Start the processes and wait for all of them.

    Args:
        backend: `gloo` or `nccl`.
        processes: How many.
        seconds: Until all are ended.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = [
        Child("callbacks.doctor.peer", backend, str(rank), str(processes), str(port))
        for rank in range(processes)
    ]
    end = time.monotonic() + seconds
    try:
        return [child.outcome(end - time.monotonic()) for child in children]
    finally:
        for child in children:
            child.end()


def resolves() -> bool:
    """Return whether this host's own name resolves to an address."""
    try:
        return bool(socket.getaddrinfo(socket.gethostname(), None))
    except OSError:
        return False


def _several(cfg: DictConfig) -> bool:
    return number(cfg) * cfg.trainer.num_nodes > 1


def _mend_of_gloo() -> str:
    named = os.environ.get("GLOO_SOCKET_IFNAME")
    there = [name for _, name in socket.if_nameindex()]
    if named and not set(named.split(",")) <= set(there):
        return (
            f"GLOO_SOCKET_IFNAME={named} is no interface here, take one of {', '.join(there)}, or"
            " unset it"
        )
    if not resolves():
        return (
            "the host name does not resolve: set GLOO_SOCKET_IFNAME=lo, or add the name to"
            " /etc/hosts"
        )
    return "set GLOO_SOCKET_IFNAME=lo on one machine, or train with trainer.devices=1"


def _findings(name: str, outcomes: list[Outcome], mend: str, needed: bool) -> tuple[Finding, ...]:
    failed = [outcome for outcome in outcomes if outcome.code != 0]
    if not failed:
        return ()
    why = next(
        (outcome.error for outcome in failed if outcome.code is not None),
        f"no answer within {SECONDS:.0f} s",
    )
    why = re.sub(r"\[enforce fail at [^\]]*\]\s*", "", why)[
        :160
    ]  # a place in the sources says nothing here
    what = f"two processes cannot exchange gradients by {name} ({why})"
    return (Finding("stops a run" if needed else "warning", what, mend),)


def _answer(name: str, outcomes: list[Outcome], found: tuple[Finding, ...]) -> Answer:
    if any(outcome.code != 0 for outcome in outcomes):
        return Answer({name: "does not work"}, {"tried": True, "works": False}, found)
    rate = float(outcomes[0].said.split()[-1])
    said = f"works: 2 processes, {rate:,.0f} MB of gradients a second"
    return Answer({name: said}, {"tried": True, "works": True, "megabytes_per_second": rate}, found)
