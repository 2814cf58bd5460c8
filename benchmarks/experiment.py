"""What the experiments share: shapes of equal size, the record of a result, tables, and pictures as SVG and PNG.

An experiment is a module of this folder that measures, prints a table, and with `--save` keeps its result in
benchmarks/results, its pictures in docs/images/experiments, and charts for the app in app/charts. docs/experiments.md
says what was found.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from longleaf.errors import LongleafError
from longleaf.model import model_path

from .measuring import ROOT, Figures, conditions, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "RESULTS", "Experiment", "installed", "options", "print_table", "refuse_to_save_part"]

RESULTS = ROOT / "benchmarks" / "results"
IMAGES = ROOT / "docs" / "images" / "experiments"
CHARTS = ROOT / "app" / "charts"

COLOURS = {
    "hybrid": "#1f77b4",
    "transformer": "#d62728",
    "mamba": "#2ca02c",
    "longleaf": "#1f77b4",
    "transformers": "#d62728",
    "llama.cpp": "#9467bd",
}
"""The same thing has the same colour in every picture."""


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser with what every experiment takes: --short, --seed, --threads, --save, --json."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--short", action="store_true", help="two minutes at most on two cores; fewer and smaller steps"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, texts and training")
    parser.add_argument("--threads", type=int, default=2, help="of the arithmetic")
    parser.add_argument("--save", action="store_true", help="keep the result and its pictures in the repository")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    return parser


def installed(parser: argparse.ArgumentParser, model: str) -> Path:
    """Where a model lies; ends with an error that says how to fetch it where it is not here."""
    try:
        return model_path(model)
    except LongleafError as error:
        parser.error(str(error))


def refuse_to_save_part(parser: argparse.ArgumentParser, args: argparse.Namespace, *names: str) -> None:
    """Ends with an error where `--save` would replace the record of a whole run by that of another kind of run."""
    for name in names:
        if args.save and getattr(args, name) != parser.get_default(name):
            parser.error(f"--save keeps whole runs with their own settings alone: leave out --{name.replace('_', '-')}")


class Experiment:
    """One run of an experiment and what is kept of it.

        run = Experiment("throughput", args, "transformers")
        with run.picture("prefill") as axes: axes.plot(...)
        run.finish({"rows": rows})

    Args:
        name: Of the files; a short run's end in "-short".
        args: From `options`.
        libraries: Whose versions belong to the conditions.
    """

    def __init__(self, name: str, args: argparse.Namespace, *libraries: str) -> None:
        self.name = f"{name}-short" if args.short else name
        self._args = args
        command = ["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]
        self.conditions = conditions(args.threads, *libraries) | {"seed": args.seed, "command": shlex.join(command)}
        self.console = Console(stderr=args.json)
        if not self.console.is_terminal:
            self.console.width = 180  # a log has no edge that a table must not cross
        self._pictures: dict[str, Figure] = {}
        self._charts: dict[str, Figures] = {}

    def chart(
        self,
        name: str,
        title: str,
        *,
        x: str,
        y: str,
        lines: dict[str, list[tuple[float, float]]],
        found: str,
        log_y: bool = False,
    ) -> None:
        """A chart for the app's page of models (`longleaf.app.ui.measured_charts.Chart`); a short run keeps none.

        Args:
            name: Of the file; the page has them in the order of their names.
            title: What is shown.
            x: What stands below, with its unit.
            y: What stands at the left, with its unit.
            lines: By name: (x, y) of each point.
            found: What it shows, in a sentence.
            log_y: Whether y grows by factors.
        """
        about = f"Measured on {self.conditions['cpu']}, {self.conditions['date']}: {self.conditions['command']}"
        self._charts[name] = {
            "title": title, "x": x, "y": y, "lines": lines, "found": found, "about": about, "log_y": log_y,
        }  # fmt: skip

    @contextmanager
    def picture(self, name: str = "", *, width: float = 7.0, height: float = 4.2) -> "Iterator[Axes]":
        """Axes to draw on, in inches; saved as NAME-PART.svg and .png at the end, if anything is.

        Args:
            name: The part; "" where there is one picture alone.
            width: In inches.
            height: In inches.
        """
        with self.pictures(name, width=width, height=height) as (axes,):
            yield axes

    @contextmanager
    def pictures(
        self, name: str = "", columns: int = 1, rows: int = 1, *, width: float = 7.0, height: float = 4.2
    ) -> "Iterator[list[Axes]]":
        """As `picture`, with several axes side by side, row after row."""
        from matplotlib.figure import Figure as NewFigure  # without pyplot: no window, no state

        figure = NewFigure(figsize=(width, height), layout="constrained")
        axes = [figure.add_subplot(rows, columns, i + 1) for i in range(rows * columns)]
        yield axes
        for axis in axes:
            axis.spines[["top", "right"]].set_visible(False)
        self._pictures[f"{self.name}-{name}" if name else self.name] = figure

    def table(self, title: str, rows: Sequence[Figures]) -> None:
        """Prints rows, unless only JSON is wanted."""
        if not self._args.json:
            print_table(self.console, title, rows)

    def finish(self, result: Figures) -> None:
        """Prints the JSON line, and keeps result and pictures where that was asked for."""
        record: Figures = {"experiment": self.name, "conditions": self.conditions, **result}
        if self._args.save:
            RESULTS.mkdir(exist_ok=True)
            text = json.dumps(record, indent=1, allow_nan=False) + "\n"
            (RESULTS / f"{self.name}.json").write_text(text, encoding="utf-8")
            if not self._args.short:
                CHARTS.mkdir(exist_ok=True)
                for name, chart in self._charts.items():
                    (CHARTS / f"{name}.json").write_text(json.dumps(chart, indent=1) + "\n", encoding="utf-8")
            IMAGES.mkdir(parents=True, exist_ok=True)
            import matplotlib as mpl

            # Without a date and with fixed ids: the same result makes the same file.
            with mpl.rc_context({"svg.hashsalt": "longleaf"}):
                for name, figure in self._pictures.items():
                    figure.savefig(IMAGES / f"{name}.png", dpi=150, metadata={"Software": None})
                    figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})
        print(json.dumps(record, allow_nan=False))


def print_table(console: Console, title: str, rows: Sequence[Figures]) -> None:
    """A table with a column for each key that any row has."""
    table = Table(title=title, title_justify="left")
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        numbers = all(isinstance(row.get(name), (int, float, type(None))) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*("" if row.get(name) is None else shown(row[name]) for name in names))
    console.print(table)
