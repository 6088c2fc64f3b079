from .comparison import compare_runs
from .leaderboard import update_leaderboard
from .report_data import build_report
from .run_folder import FinishedRun, load_finished_runs
from .sections import Section, Table

__all__ = [
    "FinishedRun",
    "Section",
    "Table",
    "build_report",
    "compare_runs",
    "load_finished_runs",
    "update_leaderboard",
]
