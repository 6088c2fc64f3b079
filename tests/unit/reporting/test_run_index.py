"""Tests of finding runs, of re-reading only changed ones and of runs that cannot be ranked."""

import json
import os

import pytest

from reporting import run_index
from reporting.leaderboard import build_leaderboard
from reporting.run_index import RunIndex
from tests.factories.run_folder import changed, labels, left


@pytest.fixture
def reads(monkeypatch):
    """The folders that were really read."""
    found, own = [], run_index.read_entry
    monkeypatch.setattr(
        run_index, "read_entry", lambda folder, runs: found.append(folder.name) or own(folder, runs)
    )
    return found


def look(runs):
    seen = RunIndex(runs, runs / ".leaderboard/known.npz")
    found = build_leaderboard(seen)
    seen.save()
    return found


def test_only_what_has_changed_is_read_again(tmp_path, reads):
    for name in "abc":
        left(tmp_path / name, labels(), 0.5)
    first = look(tmp_path)
    assert sorted(reads) == list("abc")
    reads.clear()
    assert look(tmp_path) == first and reads == []
    changed(tmp_path / "b", title="another title")
    left(tmp_path / "sweep/0", labels(1.0), 0.9)
    found = look(tmp_path)
    assert sorted(reads) == ["0", "b"]
    (group,) = found["groups"]
    assert group["lines"][0]["run"] == "sweep/0" and "another title" in [
        line["title"] for line in group["lines"]
    ]
    for name in ("c/report.json", "c/config.yaml"):
        (tmp_path / name).unlink()
    assert [line["run"] for line in look(tmp_path)["groups"][0]["lines"]] == ["sweep/0", "a", "b"]


@pytest.mark.parametrize("spoil", [b"", b"no archive", None])
def test_what_was_kept_may_be_lost_or_damaged(tmp_path, spoil):
    left(tmp_path / "a", labels(), 0.5)
    first, kept = look(tmp_path), tmp_path / ".leaderboard/known.npz"
    kept.unlink() if spoil is None else kept.write_bytes(spoil)
    assert look(tmp_path) == first


def spoilt(runs, name, status="finished", **settings):
    return left(runs / name, labels(), 0.5, status=status, **settings)


def test_runs_that_cannot_be_ranked_are_named_with_the_reason(tmp_path):
    spoilt(tmp_path, "good")
    spoilt(tmp_path, "failed", "failed")
    spoilt(tmp_path, "pruned", "pruned")
    for name in ("killed", "resumable", "untested", "empty"):
        (spoilt(tmp_path, name) / "report.json").unlink()
    for name in ("killed", "resumable"):
        (tmp_path / name / "outcome.json").unlink()
    (tmp_path / "resumable/checkpoints").mkdir()
    (tmp_path / "resumable/checkpoints/last.ckpt").touch()
    (tmp_path / "empty/config.yaml").write_text("")
    report = spoilt(tmp_path, "cut") / "report.json"
    report.write_text(report.read_text()[:500])
    evidence = spoilt(tmp_path, "evidence") / "evidence/test.npz"
    whole = evidence.read_bytes()
    evidence.write_bytes(whole[:300] + bytes(40) + whole[340:])
    (spoilt(tmp_path, "none") / "evidence/test.npz").unlink()
    changed(spoilt(tmp_path, "later"), schema=99)
    changed(spoilt(tmp_path, "other"), scores=None)
    old = json.loads((spoilt(tmp_path, "old") / "report.json").read_text())
    (tmp_path / "old/report.json").write_text(
        json.dumps({name: old[name] for name in ("title", "scores")})
    )
    found = look(tmp_path)
    assert [line["run"] for group in found["groups"] for line in group["lines"]] == ["good", "old"]
    said = {line["run"]: f"{line['status']}: {line['reason']}" for line in found["rest"]}
    assert said["failed"] == "failed: it broke" and said["pruned"].startswith(
        "pruned: stopped early by the sweep, at 0.5"
    )
    assert said["killed"] == "not ended: it is running, or was cut off before anything was saved"
    assert "ckpt_path=ITS_FOLDER continues" in said["resumable"] and said["untested"].startswith(
        "not tested: "
    )
    for name, file in {
        "cut": "report.json",
        "later": "report.json",
        "other": "report.json",
        "evidence": "test.npz",
        "none": "test.npz",
    }.items():
        assert (
            said[name].startswith("cannot be read: ")
            and str(tmp_path / name) in said[name]
            and file in said[name]
        ), said[name]
    assert "newer than 3: update this repository" in said["later"] and said["empty"].startswith(
        "cannot be read: "
    )


def test_what_is_no_run_is_not_listed_and_other_folders_of_a_run_are_not_searched(tmp_path):
    run = spoilt(tmp_path, "experiment/run")
    left(run / "feature_maps/looks_like_one", labels(), 0.5)
    others = {
        "validated": {"do": ["validate"]},
        "predicted": {"do": ["predict"]},
        "one_batch": {"trainer": {"fast_dev_run": True}},
    }
    for name, settings in others.items():
        (spoilt(tmp_path, name, **settings) / "report.json").unlink()
    (tmp_path / ".hidden/run").mkdir(parents=True)
    (tmp_path / "loop").symlink_to(tmp_path)
    sweep = spoilt(tmp_path, "sweep/0").parent
    (sweep / "multirun.yaml").touch()
    (sweep / "report.json").write_text(
        (run / "report.json").read_text()
    )  # a page over several runs has no evidence
    found = look(tmp_path)
    assert sorted(line["run"] for group in found["groups"] for line in group["lines"]) == [
        "experiment/run",
        "sweep/0",
    ]
    assert found["rest"] == [] and [page["run"] for page in found["several"]] == ["sweep"]


def test_a_run_whose_files_keep_time_and_size_is_taken_for_the_same(tmp_path, reads):
    path = spoilt(tmp_path, "a") / "report.json"
    look(tmp_path)
    before = path.stat()
    path.write_text(path.read_text().replace('"t"', '"u"'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look(tmp_path)["groups"][0]["lines"][0]["title"] == "t" and reads == ["a"]
