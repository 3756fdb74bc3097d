"""Of a search that judges each configuration several times: their means, in the report."""

from pipeline.reports.html import Child, Html, note, section, table
from pipeline.search.standing import Standing


def estimate_section(standing: Standing) -> Html | None:
    if not standing.estimates:
        return None
    repeats, metric = standing.plan.repeats, standing.estimates[0].metric
    rows: list[list[Child]] = [
        [
            " ".join(standing.plan.space.overrides(each.params)) or "as it is",
            f"{each.mean:.4f}",
            "" if each.spread is None else f"{each.spread:.4f}",
            ", ".join(f"{value:.4f}" for value in each.values),
        ]
        for each in standing.estimates
    ]
    return section(
        "Estimate",
        table(["configuration", f"{metric}, mean", "spread", f"each {repeats}"], rows),
        note(f"The mean over {repeats} is the estimate; the best single trial was lucky."),
    )
