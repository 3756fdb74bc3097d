"""The pictures and the report of a search. An error in them does not end the search."""

import traceback
from collections.abc import Callable
from pathlib import Path

from optuna.study import Study

from pipeline.search.plan import Plan
from pipeline.system.files import write_atomically

REPORT = "report.html"
GAPS = "gaps.md"
LOG = "report.log"
Tell = Callable[[str], object]


def write_search_outputs(plan: Plan, folder: Path, study: Study, tell: Tell, *, is_under_way: bool) -> list[str]:
    """Make pictures and report; return the files, relative to the search's directory `folder`.

    `tell` is given one line for all that could not be made; what exactly went wrong is in LOG.
    """
    made: list[Path] = []
    problems: list[Exception] = []
    try:
        from pipeline.search.results import search_report, search_results, split_scores
        from pipeline.search.results.plots.draw import write_plots

        found = search_results.read_search_results(plan, folder, study, is_under_way=is_under_way)
        for drawn in write_plots(found):
            if isinstance(drawn, Exception):
                problems.append(drawn)
            else:
                made.append(drawn)
        if (between := split_scores.generalization_gaps(found)) is not None:
            write_atomically(folder / GAPS, between.markdown())
            made.append(folder / GAPS)
        made.append(
            search_report.write_search_report(found, folder / REPORT, [each for each in made if each.suffix == ".png"])
        )
    except Exception as problem:  # noqa: BLE001  whatever it is: a search is not lost for a picture of it
        problems.append(problem)
    if problems:
        newest = problems[-1]
        said = f"{type(newest).__name__}: {newest}".partition("\n")[0]
        tell(f"{len(problems)} of the pictures and the report could not be made ({said}){_kept(folder, problems)}")
    return [path.relative_to(folder).as_posix() for path in made]


def _kept(folder: Path, problems: list[Exception]) -> str:
    path = folder / LOG
    try:
        path.write_text("\n".join("".join(traceback.format_exception(each)) for each in problems), encoding="utf-8")
    except OSError:  # the disk may be what is wrong
        return ""
    return f"; more in {path}"
