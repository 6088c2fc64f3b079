"""Compose one experiment and carry out what `do` says: python run.py experiment=NAME."""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONF = Path(__file__).parent / "conf"


def job(cfg: "DictConfig") -> float | None:
    """What Hydra runs; mistakes are told here, before Hydra adds its own words to them."""
    from callbacks.runs.carry_out import carry_out
    from callbacks.runs.trial import is_trial, trial

    return told(trial, carry_out, cfg) if is_trial() else told(carry_out, cfg)


def told(work: Callable[..., Any], *arguments: Any) -> Any:
    """Does the work; a mistake of the user ends the process with one sentence and no traceback."""
    try:
        return work(*arguments)
    except Exception as error:
        from callbacks.runs.sentences import sentence_of

        sentence = sentence_of(error)
        if sentence is None:
            raise
        print(f"{said_by()}{sentence[0]}", file=sys.stderr)
        sys.exit(sentence[1])


def said_by() -> str:
    """Which of several processes speaks; nothing where it is the first."""
    from callbacks.runs.launched import rank

    return f"[rank {rank()}] " if rank() else ""


def one_folder() -> None:
    """Ranks that torchrun or srun started agree on one run folder, unless the user named it."""
    from callbacks.runs.launched import folder_name

    if not any(word.startswith("hydra.run.dir=") for word in sys.argv):
        try:
            name = folder_name()
        except ValueError as error:
            sys.exit(str(error))
        if name:
            sys.argv.append(
                f"hydra.run.dir=${{paths.runs}}/${{hydra:runtime.choices.experiment}}/{name}"
            )


def complete_folds() -> None:
    """`-m fold=range(5)` means folds=5, unless the experiment says how many there are."""
    from callbacks.runs.swept_folds import folds_word

    word = folds_word(sys.argv[1:], CONF)
    if word:
        sys.argv.append(word)


def main() -> None:
    """The command line."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        from callbacks.runs.menu import menu

        print(menu(CONF))
        return
    os.environ.setdefault(
        "HYDRA_FULL_ERROR", "1"
    )  # errors reach us whole, and we say them in one sentence
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import hydra

    one_folder()
    told(complete_folds)
    # Hydra makes its own callbacks without a whitelist; this one is ours
    warnings.filterwarnings(
        "ignore", r"hydra\.utils\.instantiate\(\) resolved _target_='callbacks\.sweeps\.trials"
    )
    told(hydra.main(config_path=str(CONF), config_name="run")(job))


if __name__ == "__main__":
    main()
