from .comparison import compare_runs
from .leaderboard import update_leaderboard
from .report_data import build_report
from .run_folder import RunFolder, find_evaluated_runs
from .sections import Section, Table

__all__ = [
    "RunFolder",
    "Section",
    "Table",
    "build_report",
    "compare_runs",
    "find_evaluated_runs",
    "update_leaderboard",
]
