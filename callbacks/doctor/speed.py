"""Rates of step and loader, which of the two is the limit, and the findings that follow."""

import json
from typing import Any

from omegaconf import DictConfig, OmegaConf

from callbacks.doctor.child import ProcessResult, Subprocess
from callbacks.doctor.devices import accelerator_kind, chosen_precision, n_devices
from callbacks.doctor.finding import CheckResult, Issue
from callbacks.doctor.machine import allowed_cores, n_workers
from callbacks.doctor.measuring import FULL_PRECISION
from callbacks.doctor.network import TOO_MANY_PARAMETERS
from datamodules.image_size import ImageSize

SPEED_SECONDS = 120.0
TOLERANCE = 0.9  # of a rate; less is more than the noise of a busy machine
MEASUREMENT_NAMES = {"cpu": "CPU", "cuda": "GPU", "mps": "MPS"}
BenchmarkLines = list[dict[str, Any]]


def start_benchmark() -> Subprocess:
    """Start the measuring process, which imports what it needs and waits for a configuration."""
    return Subprocess("callbacks.doctor.measuring")


def evaluate_speed(cfg: DictConfig, child: Subprocess) -> CheckResult:
    """Measure in the started process, and evaluate the rates."""
    outcome = child.result(SPEED_SECONDS, given=OmegaConf.to_yaml(cfg, resolve=True))
    lines = [json.loads(line) for line in outcome.stdout.splitlines() if line.startswith('{"line"')]
    said, findings = evaluate_benchmark(cfg, lines)
    return CheckResult(said, {"measured": lines}, (*_benchmark_result(outcome), *findings))


def _benchmark_result(outcome: ProcessResult) -> list[Issue]:
    if outcome.code == 0:
        return []
    if outcome.code == -9:
        mend = "lower datamodule.batch_size or image_size, or ask for more memory"
        return [
            Issue(
                "stops a run",
                "the measurement of a small step was killed by the system, as it does when memory"
                " runs out",
                mend,
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
    """Describe the measured lines, and find what is wrong.

    Args:
        cfg: Of the run.
        lines: As `callbacks.doctor.measuring` prints them.
    """
    of: dict[str, BenchmarkLines] = {
        name: [line for line in lines if line["line"] == name]
        for name in ("network", "step", "loader", "failed")
    }
    said: dict[str, str] = {}
    for net in of["network"]:
        words = f"{net['name']}, {net['parameters'] / 1e6:.1f} M parameters"
        said[f"network, {MEASUREMENT_NAMES[net['device']]}"] = (
            words if net["own"] else f"{words} ({net['why']})"
        )
    for step in of["step"]:
        name = f"step, {MEASUREMENT_NAMES[step['device']]}" + (
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
            f"{_format_workers(line['workers'])} {line['images_per_second']:,.0f} images/s"
            for line in of["loader"]
        ]
        said["loader"] = (
            f"{ImageSize.from_config(of['loader'][0]['image_size'])} px: {', '.join(each)}"
        )
    limit, slow = _time_limit(cfg, of["step"], of["loader"])
    if any(net["device"] == accelerator_kind(cfg) and not net["own"] for net in of["network"]):
        limit, slow = "not told, because the step is not that of the experiment's own network", []
    said |= {"limit": limit} if limit else {}
    return said, [
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
            what, _, mend = net["refused"].rpartition("; ")
            found.append(Issue("stops a run", what, mend))
        elif not net["own"] and TOO_MANY_PARAMETERS not in net["why"]:
            mend = "see why with trainer.fast_dev_run=true"
            found.append(
                Issue(
                    "warning",
                    f"the experiment's own network could not be tried ({net['why']})",
                    mend,
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
            mend = "lower datamodule.batch_size and raise trainer.accumulate_grad_batches as much"
            found += [Issue("stops a run", what, mend)] if meant else []
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
    taken, served = rates[0], serving[0]  # both of one device, whose loader is its own
    if served >= taken:
        return f"the step: the loader is {_step_times(served / taken)} as fast", []
    what = (
        f"the loader gives {served:,.0f} images/s with {_format_workers(n_workers(cfg))}, and a device"
        f" could take {taken:,.0f}"
    )
    best = max(loaders, key=lambda line: line["images_per_second"])
    more = max(n_workers(cfg) + 1, round(n_workers(cfg) * taken / served))
    if best["images_per_second"] > 1.1 * served:
        mend = f"take datamodule.num_workers={best['workers']}"
    elif more * n_devices(cfg) <= allowed_cores():
        mend = f"try datamodule.num_workers={more}"
    else:
        mend = "ask for more cores, or make the augmentation lighter"
    return f"the loader: the step is {_step_times(taken / served)} as fast", [
        Issue("warning", what, mend)
    ]
