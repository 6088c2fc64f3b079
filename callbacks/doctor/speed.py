"""Rates of step and loader, which of the two is the limit, and the findings that follow."""

import json
from typing import Any

from omegaconf import DictConfig, OmegaConf

from callbacks.doctor.child import Child, Outcome
from callbacks.doctor.devices import chosen_precision, kind, number
from callbacks.doctor.finding import Answer, Finding
from callbacks.doctor.machine import allowed_cores, workers
from callbacks.doctor.measuring import FULL
from callbacks.doctor.network import TOO_MANY
from datamodules.sample import ImageSize

SECONDS = 120.0
CLEARLY = 0.9  # of a rate; less is more than the noise of a busy machine
NAMES = {"cpu": "CPU", "cuda": "GPU", "mps": "MPS"}
Lines = list[dict[str, Any]]


def started() -> Child:
    """Start the measuring process, which imports what it needs and waits for a configuration."""
    return Child("callbacks.doctor.measuring")


def speed(cfg: DictConfig, child: Child) -> Answer:
    """Measure in the started process, and evaluate the rates."""
    outcome = child.outcome(SECONDS, given=OmegaConf.to_yaml(cfg, resolve=True))
    lines = [json.loads(line) for line in outcome.said.splitlines() if line.startswith('{"line"')]
    said, findings = judged(cfg, lines)
    return Answer(said, {"measured": lines}, (*_ended(outcome), *findings))


def _ended(outcome: Outcome) -> list[Finding]:
    if outcome.code == 0:
        return []
    if outcome.code == -9:
        mend = "lower datamodule.batch_size or image_size, or ask for more memory"
        return [
            Finding(
                "stops a run",
                "the measurement of a small step was killed by the system, as it does when memory"
                " runs out",
                mend,
            )
        ]
    why = (
        f"took more than {SECONDS:.0f} s"
        if outcome.code is None
        else f"ended early ({outcome.error[:120] or f'code {outcome.code}'})"
    )
    return [
        Finding(
            "warning",
            f"the measurement of step and loader {why}",
            "run do=doctor again when the machine is idle",
        )
    ]


def judged(cfg: DictConfig, lines: Lines) -> tuple[dict[str, str], list[Finding]]:
    """Describe the measured lines, and find what is wrong.

    Args:
        cfg: Of the run.
        lines: As `callbacks.doctor.measuring` prints them.
    """
    of: dict[str, Lines] = {
        name: [line for line in lines if line["line"] == name]
        for name in ("network", "step", "loader", "failed")
    }
    said: dict[str, str] = {}
    for net in of["network"]:
        words = f"{net['name']}, {net['parameters'] / 1e6:.1f} M parameters"
        said[f"network, {NAMES[net['device']]}"] = (
            words if net["own"] else f"{words} ({net['why']})"
        )
    for step in of["step"]:
        name = f"step, {NAMES[step['device']]}" + (
            f" {step['index']}" if step["device"] == "cuda" else ""
        )
        text = f"{step['precision']} {step['images_per_second']:,.1f} images/s"
        said[name] = (
            f"{said[name]}, {text}"
            if name in said
            else f"{step['images']} x {ImageSize.from_config(step['image_size'])} px: {text}"
        )
    if of["loader"]:
        each = [
            f"{_processes(line['workers'])} {line['images_per_second']:,.0f} images/s"
            for line in of["loader"]
        ]
        said["loader"] = (
            f"{ImageSize.from_config(of['loader'][0]['image_size'])} px: {', '.join(each)}"
        )
    limit, slow = _limit(cfg, of["step"], of["loader"])
    if any(net["device"] == kind(cfg) and not net["own"] for net in of["network"]):
        limit, slow = "not told, because the step is not that of the experiment's own network", []
    said |= {"limit": limit} if limit else {}
    return said, [
        *_network(of["network"]),
        *_failed(cfg, of["failed"], of["network"]),
        *_low_precision(cfg, of["step"]),
        *slow,
    ]


def _processes(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:,.0f} times"


def _network(networks: Lines) -> list[Finding]:
    found: list[Finding] = []
    for net in networks:
        if net.get("refused"):
            what, _, mend = net["refused"].rpartition("; ")
            found.append(Finding("stops a run", what, mend))
        elif not net["own"] and TOO_MANY not in net["why"]:
            mend = "see why with trainer.fast_dev_run=true"
            found.append(
                Finding(
                    "warning",
                    f"the experiment's own network could not be tried ({net['why']})",
                    mend,
                )
            )
    return found


def _failed(cfg: DictConfig, failures: Lines, networks: Lines) -> list[Finding]:
    own, found = {net["device"] for net in networks if net["own"]}, []
    for line in failures:
        if line["of"] != "a step":
            found.append(
                Finding(
                    "warning",
                    f"{line['of']} could not be measured ({line['why']})",
                    "try datamodule.num_workers=0",
                )
            )
        elif line.get("memory"):
            meant = (
                line["device"] in own
                and line["device"] == kind(cfg)
                and line["precision"] == chosen_precision(cfg, kind(cfg))
            )
            of = (
                f"{line['images']} images of {ImageSize.from_config(line['image_size'])} px in"
                f" {line['precision']}"
            )
            what = f"a step of {of} does not fit into the memory of the GPU"
            mend = "lower datamodule.batch_size and raise trainer.accumulate_grad_batches as much"
            found += [Finding("stops a run", what, mend)] if meant else []
        else:
            what = (
                f"a step on the {NAMES[line['device']]} in {line['precision']} fails"
                f" ({line['why']})"
            )
            found.append(Finding("warning", what, "see where with trainer.fast_dev_run=true"))
    return found


def _low_precision(cfg: DictConfig, steps: Lines) -> list[Finding]:
    of = kind(cfg)
    rates = {
        line["precision"]: line["images_per_second"]
        for line in reversed(steps)
        if line["device"] == of
    }
    chosen = chosen_precision(cfg, of)
    if FULL not in rates or rates.get(chosen, rates[FULL]) > CLEARLY * rates[FULL]:
        return []
    what = (
        f"{chosen} is chosen, but {rates[chosen]:,.1f} images/s are fewer than the"
        f" {rates[FULL]:,.1f} of {FULL} here"
    )
    return [Finding("warning", what, f"take trainer.precision={FULL}")]


def _limit(cfg: DictConfig, steps: Lines, loaders: Lines) -> tuple[str, list[Finding]]:
    of = kind(cfg)
    rates = [
        line["images_per_second"]
        for line in steps
        if line["device"] == of and line["precision"] == chosen_precision(cfg, of)
    ]
    serving = [line["images_per_second"] for line in loaders if line["workers"] == workers(cfg)]
    if not rates or not serving:
        return "", []
    taken, served = rates[0], serving[0]  # both of one device, whose loader is its own
    if served >= taken:
        return f"the step: the loader is {_times(served / taken)} as fast", []
    what = (
        f"the loader gives {served:,.0f} images/s with {_processes(workers(cfg))}, and a device"
        f" could take {taken:,.0f}"
    )
    best = max(loaders, key=lambda line: line["images_per_second"])
    more = max(workers(cfg) + 1, round(workers(cfg) * taken / served))
    if best["images_per_second"] > 1.1 * served:
        mend = f"take datamodule.num_workers={best['workers']}"
    elif more * number(cfg) <= allowed_cores():
        mend = f"try datamodule.num_workers={more}"
    else:
        mend = "ask for more cores, or make the augmentation lighter"
    return f"the loader: the step is {_times(taken / served)} as fast", [
        Finding("warning", what, mend)
    ]
