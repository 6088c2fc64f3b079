"""Tests of trials run by a foreign Hydra launcher, such as Slurm's: numbering and reporting."""

import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, JobStatus

from datamodules.errors import UserError
from engine.sweeps.process_launcher import Job, launch_jobs
from reporting.outcome import Outcome, read_outcome, write_outcome


class Cluster:
    """Carries out what `ends` says of each number."""

    def __init__(self, sweep, **ends):
        self.sweep, self.ends, self.launches = sweep, ends, []

    def launch(self, job_overrides, initial_job_idx):
        self.launches.append(list(range(initial_job_idx, initial_job_idx + len(job_overrides))))
        returned = []
        for number in self.launches[-1]:
            error = self.ends.get(f"n{number}")
            if isinstance(error, OSError):
                raise error
            if error is None:
                write_outcome(self.sweep / str(number), Outcome(status="finished", score=0.5))
            returned.append(
                JobReturn(
                    status=JobStatus.FAILED if error else JobStatus.COMPLETED, _return_value=error
                )
            )
        return returned


def ended(launcher, sweep, numbers, n_jobs=None) -> dict[int, str]:
    told: list[Job] = []
    jobs = iter([Job(number, ["a=1"], sweep) for number in numbers])
    assert launch_jobs(launcher, jobs, n_jobs, told.append) is False
    return {job.number: read_outcome(job.folder).failure for job in told}


def test_trials_that_follow_on_one_another_are_launched_together_and_others_alone(tmp_path):
    cluster = Cluster(tmp_path)
    assert ended(cluster, tmp_path, [3, 7, 8, 9, 10], n_jobs=2) == dict.fromkeys([3, 7, 8, 9, 10])
    assert cluster.launches == [[3], [7], [8, 9], [10]]


def test_a_job_that_fails_or_dies_is_told_and_the_next_is_launched(tmp_path):
    cluster = Cluster(tmp_path, n0=ValueError("no such rate"), n1=OSError("the node is gone"))
    assert ended(cluster, tmp_path, [0, 1, 2]) == {
        0: "ValueError: no such rate",
        1: "OSError: the node is gone",
        2: None,
    }
    assert read_outcome(tmp_path / "2").score == 0.5


def test_hydras_own_launcher_carries_out_one_at_a_time(tmp_path):
    with pytest.raises(
        UserError, match=r"n_jobs=2: hydra/launcher=basic.*remove hydra/launcher=basic"
    ):
        launch_jobs(BasicLauncher(), iter([Job(0, [], tmp_path)]), 2, lambda job: None)
