"""All pictures of a search, as files."""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pipeline.search.results.plots import importance, learning, many, progress, values
from pipeline.search.results.plots.look import SETTINGS
from pipeline.search.results.search_results import SearchResults
from pipeline.system.files import write_atomically

FOLDER = "figures"
DOTS_PER_INCH = 130
COLOURS = 256

Draw = Callable[[], Figure | None]


def write_plots(results: SearchResults) -> Iterator[Path | Exception]:
    """Write figures/*.png of those that there is something to draw for; in place of one that failed, why."""
    folder = results.folder / FOLDER
    folder.mkdir(exist_ok=True)
    for name, draw in _pictures(results).items():
        path = folder / f"{name}.png"
        try:
            # None of matplotlib's state is left changed, and pyplot, which would keep every figure, is not used.
            with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as: a letter of a user's name is not in the font
                figure = draw()
                if figure is None:
                    path.unlink(missing_ok=True)  # of an earlier time
                    continue
                _save(figure, path)
        except Exception as problem:  # noqa: BLE001  the others may go well; whoever asks tells it
            problem.add_note(f"figures/{name}.png")
            yield problem
        else:
            yield path


def _save(figure: Figure, path: Path) -> None:
    """With as many colours as a drawing needs, the rare ones too: a third of the bytes."""
    whole = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(whole, dpi=DOTS_PER_INCH)
    small = io.BytesIO()
    with Image.open(whole) as picture:
        fewer = picture.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        fewer.save(small, "PNG", optimize=True)
    write_atomically(path, small.getvalue())


def _pictures(results: SearchResults) -> dict[str, Draw]:
    found: dict[str, Draw] = {
        "learning_curve": lambda: learning.learning_curve_plot(results),
        "history": lambda: progress.history_plot(results),
        "front": lambda: many.pareto_plot(results),
        "importance": lambda: importance.importance_plot(results) if results.best is not None else None,
    }
    for objective in results.objectives:
        end = "" if len(results.objectives) == 1 else f"_{re.sub(r'[^0-9A-Za-z]+', '_', objective.name)}"
        found[f"slices{end}"] = lambda objective=objective: values.slice_plot(results, objective)  # type: ignore[misc]
        found[f"contours{end}"] = lambda objective=objective: values.contour_plot(results, objective)  # type: ignore[misc]
        found[f"parallel{end}"] = lambda objective=objective: many.parallel_coordinate_plot(results, objective)  # type: ignore[misc]
    found["curves"] = lambda: progress.learning_curves_plot(results)
    found["timeline"] = lambda: progress.timeline_plot(results)
    return found
