"""`report.html`: a search on one page that needs nothing else, made from its directory alone."""

import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path

from optuna.trial import FrozenTrial

from pipeline.errors import ConfigError
from pipeline.reports import formatting
from pipeline.reports.html import (
    Child,
    Html,
    code_block,
    columns,
    definition_list,
    element,
    headline_figures,
    join_html,
    page,
    png_data_uri,
    remark,
    section,
    table,
)
from pipeline.search.recipe import format_recipe, trial_command
from pipeline.search.results.cross_validation import best_params
from pipeline.search.results.final_evaluation import FinalComparison
from pipeline.search.results.search_results import SearchResults, format_trial_scores, trial_seconds
from pipeline.search.results.split_scores import generalization_gaps
from pipeline.search.results.trial_table import trial_table, wrap_cell_text
from pipeline.system.files import file_lock, write_atomically
from pipeline.tracking.tracking_uri import redact


def cross_validation_section(results: SearchResults) -> Html | None:
    if not results.estimates:
        return None
    repeats, metric = results.plan.repeats, results.estimates[0].metric
    rows: list[list[Child]] = [
        [
            " ".join(results.plan.space.overrides(each.params)) or "as it is",
            f"{each.mean:.4f}",
            "" if each.spread is None else f"{each.spread:.4f}",
            ", ".join(f"{value:.4f}" for value in each.values),
        ]
        for each in results.estimates
    ]
    return section(
        "Estimate",
        table(["configuration", f"{metric}, mean", "spread", f"each {repeats}"], rows),
        remark(f"The mean over {repeats} is the estimate; the best single trial was lucky."),
    )


LOCK = ".report.lock"
PATIENCE_SECONDS = 10.0
SAYS = {  # {first part of a picture's name: (title, how to read it)}
    "learning": ("Learning curve", "Each point is the mean over the seeds, the bar their range. Where the curve of "
                 "unseen data still rises at the right, more data will help; where the two have met, only another "
                 "model will."),
    "history": ("Scores", "Each point is a trial; the line is the best until then. Flat for long: more trials of the "
                "same kind will hardly help. ▾ and ▴ count what lies too far off to be drawn at its place."),
    "front": ("Trade-off", "On the line lie the trials that none is better than in each: choose among these."),
    "importance": ("Importance", "How much each key decides whether a trial is among the best (PED-ANOVA, Watanabe et "
                   "al. 2023). It holds for the values searched, and after few trials it is a guess."),
    "slices": ("One key at a time", "Ringed is the best trial. Where the best lie at an edge, search beyond it; where "
               "high and low scores lie side by side, the key matters little."),
    "contours": ("Two keys at a time", "The most important keys. The ground shows the mean score near each place, "
                 "where there are trials. A slanted ridge: the two depend on each other."),
    "parallel": ("All keys at once", "A line is a trial, the thick one the best. Where the dark lines meet on an axis, "
                 "its value matters."),
    "curves": ("Learning curves", "What the pruner decides from. Curves that cross late were ended too early: raise "
               "search.pruner.n_warmup_steps."),
    "timeline": ("Time", "A bar is a trial. Gaps are workers that waited; red is what broke down."),
}  # fmt: skip


def write_search_report(results: SearchResults, path: Path, pictures: Sequence[Path]) -> Path:
    with file_lock(results.folder / LOCK, timeout_seconds=PATIENCE_SECONDS):
        write_atomically(path, render_search_report(results, pictures))
    return path


def render_search_report(results: SearchResults, pictures: Sequence[Path]) -> str:
    return page(
        f"search {results.name}",
        _top(results),
        _verdict(results),
        cross_validation_section(results),
        _best(results),
        _test(results),
        _front(results),
        _gaps(results),
        *_pictures(pictures),
        section(
            "Trials", trial_table(results) if results.trials else None, remark("A click on a heading sorts by it.")
        ),
        _searched(results),
        _commands(results),
        element("footer", f"{results.name} · made from the directory of the search alone"),
    )


def _top(results: SearchResults) -> Html:
    settings = results.plan.settings
    seconds = sum(trial_seconds(each) or 0.0 for each in results.trials)
    sampler = str(settings.sampler._target_).rpartition(".")[2]
    told = f"{results.counts}; {sampler}; {formatting.format_duration(seconds)} of training"
    state = None if results.state == "finished" else element("p", element("span", _state(results), class_="status"))
    return element("header", element("h1", f"search {results.name}"), element("p", told, class_="quiet"), state)


def _state(results: SearchResults) -> str:
    if results.is_under_way:
        return "under way: this is how far it has come"
    return f"stopped after {results.done} of {results.wanted} trials"


def _verdict(results: SearchResults) -> Html:
    best, comparison = results.best, results.comparison
    if best is None:
        return element("p", "No trial has finished yet.", class_="verdict")
    if results.estimates:
        found = results.estimates[0]
        spread = "" if found.spread is None else f"± {found.spread:.4f} between {len(found.values)} trials"
        return headline_figures([(f"{found.metric}, mean", f"{found.mean:.4f}", spread)])
    figures = [
        (name, score, f"validation, trial {best.number}" if place == 0 else f"trial {best.number}")
        for place, (name, score) in enumerate(
            zip(results.plan.objectives, format_trial_scores(results, best), strict=True)
        )
    ]
    first = next((each for each in results.trials if each.number == 0), None)
    if first is not None and first.values is not None and first.number != best.number:
        figures.append(("where it began", format_trial_scores(results, first)[0], "trial 0, the default"))
    if comparison is not None:
        figures += [
            (f"{comparison.metric}, {kind}", f"{statistics.mean(values):.4f}", _seeds(values))
            for kind, values in (("best", comparison.best), ("default", comparison.default))
            if values
        ]
    sentence = "Not yet judged on the test set." if comparison is None else f"On the test set: {comparison.verdict}."
    return join_html(headline_figures(figures), element("p", sentence, class_="verdict"))


def _seeds(values: Sequence[float]) -> str:
    if len(values) == 1:
        return "one seed"
    return f"± {statistics.stdev(values):.4f}, {len(values)} seeds"


def _best(results: SearchResults) -> Html | None:
    best, plan = results.best, results.plan
    if best is None:
        return None
    params = best_params(results.trials, plan, best)
    try:
        defaults, recipe = plan.space.texts(plan.default_params()), format_recipe(plan, params)
    except ConfigError:  # options that were there when the search began
        defaults, recipe = {}, None
    rows: list[tuple[str, Child]] = [
        (
            key,
            text
            if defaults.get(key) in (text, None)
            else join_html(text, element("span", f"  default: {wrap_cell_text(defaults[key])}", class_="quiet small")),
        )
        for key, text in plan.space.texts(params).items()
    ]
    typed = shlex.join(trial_command(plan, params))
    return section(
        "The best configuration",
        definition_list(rows),
        element("h3", "As a command", style="margin-top:1.4rem"),
        code_block(redact(typed)),
        None if recipe is None else element("h3", f"As a recipe, conf/experiment/{results.name}.yaml"),
        None if recipe is None else code_block(redact(recipe)),
    )


def _test(results: SearchResults) -> Html | None:
    comparison = results.comparison
    if comparison is None:
        return None
    rows: list[list[Child]] = [
        [
            kind,
            f"{statistics.mean(values):.4f}",
            f"{statistics.stdev(values):.4f}" if len(values) > 1 else "",
            _each(values),
        ]
        for kind, values in (("best", comparison.best), ("default", comparison.default))
        if values
    ]
    return section(
        "On the test set",
        table([comparison.metric, "mean", "spread", "each seed"], rows),
        remark(_fairness(comparison)),
    )


def _each(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _fairness(comparison: FinalComparison) -> str:
    fresh = "Ordinary runs on seeds that the search has not used; the search itself never sees the test set."
    if not comparison.default:
        return fresh
    return f"{fresh} A gain is clear if every seed of the best beats every seed of the default."


def _front(results: SearchResults) -> Html | None:
    if len(results.objectives) < 2 or not results.front:
        return None

    def row(trial: FrozenTrial) -> list[Child]:
        values = " ".join(
            f"{key}={wrap_cell_text(text)}" for key, text in results.plan.space.texts(trial.params).items()
        )
        return [str(trial.number), *format_trial_scores(results, trial), values]

    head = ["trial", *results.plan.objectives, "values"]
    rows = [row(each) for each in sorted(results.front, key=lambda each: each.values[0])]
    return section("None is better in each objective", table(head, rows))


def _gaps(results: SearchResults) -> Html | None:
    found = generalization_gaps(results)
    if found is None:
        return None
    title = f"From training to {found.part}"
    return section(title, table(found.head, [found.cells(row) for row in found.rows]), remark(found.sentence))


def _pictures(pictures: Sequence[Path]) -> list[Html | None]:
    by_kind: dict[str, list[Path]] = {kind: [] for kind in SAYS}
    for path in pictures:
        by_kind[path.stem.partition("_")[0]].append(path)
    return [
        section(title, *(_inlined(path, title) for path in by_kind[kind]), remark(sentence) if by_kind[kind] else None)
        for kind, (title, sentence) in SAYS.items()
    ]


def _inlined(path: Path, title: str) -> Html:
    return element("figure", element("img", src=png_data_uri(path.read_bytes()), alt=title), class_="chart")


def _searched(results: SearchResults) -> Html | None:
    plan = results.plan
    searched: list[list[Child]] = [
        [key, text, _condition(plan.space.conditions.get(key, {}))] for key, text in plan.settings.space.items()
    ]
    names = ("n_trials", "workers", "timeout", "max_failures", "final_seeds")
    rows: list[tuple[str, Child]] = [(name, formatting.format_setting(plan.settings[name])) for name in names]
    rows += [(f"objective {name}", direction) for name, direction in plan.objectives.items()]
    rows += [(part, str(plan.settings[part]._target_).rpartition(".")[2]) for part in ("sampler", "pruner")]
    fixed = redact(shlex.join(plan.fixed)) or "none"
    return section(
        "What was searched, and how",
        table(["key", "values", "where"], searched, class_="words"),
        element(
            "div",
            columns(definition_list(rows), definition_list([("in all trials", fixed)])),
            style="margin-top:1.4rem",
        ),
    )


def _condition(needed: "dict[str, frozenset[str]]") -> str:
    return ", ".join(f"{key}={' or '.join(sorted(values))}" for key, values in needed.items())


def _commands(results: SearchResults) -> Html | None:
    name = f"{results.name}{results.whereabouts}"
    rows = [
        ("Make this page again", f"pipeline search show {name}"),
        ("Look at it in Optuna's dashboard", f"pipeline search dashboard {name}"),
    ]
    if not results.is_under_way:
        rows.insert(0, ("Go on with it", results.command_to_go_on))
    return section("To type", *(join_html(element("h3", title), code_block(text)) for title, text in rows))
