"""What an experiment keeps: the record, the pictures, and the charts that the app draws."""

import json
import sys
from pathlib import Path

import pytest
from benchmarks import experiment
from benchmarks.experiment import Experiment, installed, options, refuse_to_save_part

from longleaf.app.ui.measured_charts import Chart, measured_chart


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RESULTS", "IMAGES", "CHARTS"):
        monkeypatch.setattr(experiment, name, tmp_path / name.lower())
    monkeypatch.setattr(sys, "argv", ["benchmarks/tides.py", "--save"])
    return tmp_path


def run(*words: str) -> None:
    one = Experiment("tides", options("").parse_args(["--save", "--json", *words]))
    with one.picture("height") as axes:
        axes.plot([1, 2], [3, 4])
    one.chart(
        "1-tides",
        "Height",
        x="hours",
        y="metres",
        lines={"a": [(1024, 3.0), (2048, 4.5)]},
        found="It rises.",
        log_y=True,
    )
    one.finish({"rows": [1, 2]})


def test_what_is_kept_can_be_drawn_by_the_app(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run()
    record = json.loads((kept / "results" / "tides.json").read_text())
    assert record == json.loads(capsys.readouterr().out)
    assert record["rows"] == [1, 2]
    assert record["conditions"]["command"] == "python -m benchmarks.tides --save"
    assert {path.name for path in (kept / "images").iterdir()} == {"tides-height.svg", "tides-height.png"}
    chart = Chart(**json.loads((kept / "charts" / "1-tides.json").read_text()))
    assert "python -m benchmarks.tides --save" in chart.about
    drawn = measured_chart(chart).to_dict()
    (points,) = drawn["datasets"].values()
    assert points == [{"of": "a", "x": 1024, "y": 3.0}, {"of": "a", "x": 2048, "y": 4.5}]
    assert drawn["encoding"]["y"]["scale"]["type"] == "log"
    assert "It rises." in drawn["description"]


def test_a_part_does_not_replace_the_record_of_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    parser = options("")
    parser.add_argument("--parts", default="all")
    refuse_to_save_part(parser, parser.parse_args(["--save"]), "parts")
    refuse_to_save_part(parser, parser.parse_args(["--parts", "one"]), "parts")
    with pytest.raises(SystemExit):
        refuse_to_save_part(parser, parser.parse_args(["--save", "--parts", "one"]), "parts")
    assert "leave out --parts" in capsys.readouterr().err


def test_a_model_that_is_not_here_is_one_line_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        installed(options(""), "smollm2-135m")
    assert "longleaf model pull smollm2-135m" in capsys.readouterr().err


def test_the_same_result_makes_the_same_pictures(kept: Path) -> None:
    run()
    before = {path.name: path.read_bytes() for path in (kept / "images").iterdir()}
    run()
    assert before == {path.name: path.read_bytes() for path in (kept / "images").iterdir()}


def test_a_short_run_keeps_no_chart_for_the_app(kept: Path) -> None:
    run("--short")
    assert (kept / "results" / "tides-short.json").exists()
    assert not (kept / "charts").exists()
