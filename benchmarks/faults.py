"""Faults that a run must survive, or end in one sentence: each has a module in benchmarks/faults/.

python benchmarks/faults.py NAME [...]    # such as: disk --what cache
"""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

if __name__ == "__main__":
    names = sorted(path.stem for path in Path(__file__).with_suffix("").glob("[a-z]*.py"))
    if not set(sys.argv[1:2]) & set(names):
        sys.exit(f"python benchmarks/faults.py {{{','.join(names)}}} [...]")
    sys.exit(importlib.import_module(f"faults.{sys.argv[1]}").main(sys.argv[2:]))
