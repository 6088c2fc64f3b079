"""Hostile inputs over all tasks and readers: a sentence or the right values, within 2 s and 1 GB.

The whole table takes some minutes. Inputs are generated in a temporary folder.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.hostile import annotations, checkpoints, config, images, runs, tables
from benchmarks.hostile.runner import BAD, Case, Result, Table, run_cases
from benchmarks.hostile.template import Template, write_template

MODULES = (annotations, tables, images, runs, config, checkpoints)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("--kinds", nargs="*", default=[], help="only these kinds")
    parser.add_argument("--names", default="", help="only cases whose name has this text")
    parser.add_argument("--every", type=int, default=1, help="only each so many-th case")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file for all results")


def run(arguments: argparse.Namespace) -> int:
    """Run the table and print it; return 1 if a case did not hold."""
    table = run_table(arguments.kinds, arguments.names, arguments.every, arguments.workers)
    print("\n".join(["", *table.lines()]))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in table.results], indent=1))
    return 1 if table.bad else 0


def run_table(
    kinds: list[str] | None = None, names: str = "", every: int = 1, workers: int = 2
) -> Table:
    """Run the chosen cases in a temporary folder.

    Args:
        kinds: Kinds of cases; all if empty.
        names: Text in the names of the cases.
        every: Each so many-th of them.
        workers: Number of processes.
    """
    import torch

    torch.set_num_threads(1)  # the threads of a process do not survive a fork, and are waited for
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        template = Template(Path(folder) / "template")
        chosen: list[Case] = [
            case
            for module in MODULES
            if not kinds or set(kinds) & set(module.KINDS)
            for case in module.cases(template)
            if (not kinds or case.kind in kinds) and names in case.name
        ][::every]
        if any(case.kind == checkpoints.KIND for case in chosen):
            write_template(template)
        return run_cases(chosen, Path(folder) / "cases", workers, print_bad)


def print_bad(result: Result) -> None:
    """Print a case that did not hold, as soon as it has ended."""
    if result.end in BAD:
        print(f"\n{result.end}: {result.kind}: {result.name} ({result.seconds:.1f} s)")
        print(result.text, flush=True)
