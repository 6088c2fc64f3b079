"""Faults: what the project does with hostile input, kills, full disks and odd ends.

python benchmarks/faults.py {crash,disk,ends,hostile} --help
"""

import argparse
import sys

import parts  # noqa: F401  (puts the repository on the path)

from benchmarks import crashes, full_disk, run_ends
from benchmarks.hostile import main as hostile

COMMANDS = {"crash": crashes, "disk": full_disk, "ends": run_ends, "hostile": hostile}


def main() -> int:
    """Run one command; its exit code is 1 if anything did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0].replace("%", "%%")
        module.add_arguments(commands.add_parser(name, help=summary))
    arguments = parser.parse_args()
    return COMMANDS[arguments.command].run(arguments)


if __name__ == "__main__":
    sys.exit(main())
