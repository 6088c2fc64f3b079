"""Tests of the run that `latest:` means."""

import json
import os

from engine.run_references import latest_run


def test_a_damaged_report_is_passed_over_and_named(tmp_path, capsys):
    for number, text in enumerate(
        (
            json.dumps({"title": "t", "data": {"phantom": True}}),
            '{"data": {"pha',
            "[1]",
            json.dumps({"title": "t", "data": None}),
        )
    ):
        run = tmp_path / f"a/{number}"
        (run / "checkpoints").mkdir(parents=True)
        (run / "checkpoints/best.ckpt").touch()
        (run / "report.json").write_text(text)
        os.utime(run / "report.json", (number, number))
    assert latest_run("a", tmp_path, phantom=True) == tmp_path / "a/0"
    said = capsys.readouterr().err
    assert (
        f"{tmp_path / 'a/1/report.json'} is not a report" in said
        and "a/0/" not in said
        and said.count("\n") == 3
    )
