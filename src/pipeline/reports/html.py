"""One HTML file that needs nothing else: no network, no script."""

import re
from importlib.resources import files

from pipeline.reports.markup import Child, Html, element, join

# A browser is told to fetch nothing, whatever might have found its way into the page.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, *content: Child) -> str:
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(_read("style.css") + _read("chart.css"))),
    )
    return f"<!doctype html>\n{element('html', head, element('body', *content), lang='en')}\n"


def style() -> tuple[str, dict[str, str]]:
    """Of charts alone, and {name: its colour on light paper}."""
    light = _read("style.css").partition("}")[0]
    return _read("chart.css"), dict(re.findall(r"--([\w-]+): ([^;]+);", light))


def _read(name: str) -> str:
    return files("pipeline.reports").joinpath(name).read_text(encoding="utf-8")


def section(title: str, *content: Child) -> Html | None:
    """None where nothing is to be said."""
    present = [each for each in content if each]
    return element("section", element("h2", title), *present) if present else None


def columns(*content: Child) -> Html | None:
    present = [each for each in content if each]
    return element("div", *present, class_="columns") if present else None


def headline(figures: list[tuple[str, str, str]]) -> Html:
    """(name, value, remark) each; the first is the one that counts."""
    boxes = [
        element(
            "div",
            element("span", name),
            element("b", value),
            element("small", remark),
            class_="first" if number == 0 else None,
        )
        for number, (name, value, remark) in enumerate(figures)
    ]
    return element("div", *boxes, class_="headline")


def note(text: str) -> Html:
    return element("p", text, class_="quiet small")


def paragraphs(*sentences: str) -> Html:
    return join(*(element("p", sentence) for sentence in sentences))
