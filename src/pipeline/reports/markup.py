"""HTML and SVG whose every text is escaped, unless it is Html already."""

import html
from collections.abc import Iterable, Sequence

VOID = frozenset(("br", "img", "meta", "link", "hr"))


class Html(str):
    """Safe to be shown as it is."""


Child = str | None


def element(tag: str, *children: Child, **attributes: object) -> Html:
    """`class_` stands for class, an underscore inside a name for a hyphen; None leaves an attribute or a child out."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in VOID:
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{join(*children)}</{tag}>")


def join(*children: Child) -> Html:
    return Html("".join(each if isinstance(each, Html) else html.escape(each) for each in children if each is not None))


def table(head: Sequence[str], rows: Iterable[Sequence[Child]], *, class_: str | None = None) -> Html:
    """The first column names its row; the others are numbers, aligned to the right by the style sheet."""
    first, *others = head
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])) for row in rows
    ]
    columns = element("tr", element("th", first, scope="col"), *(element("th", name, scope="col") for name in others))
    whole = element("table", element("thead", columns) if any(head) else None, element("tbody", *body), class_=class_)
    return element("div", whole, class_="scroll")


def facts(rows: Iterable[tuple[str, Child]]) -> Html:
    """Names and what they stand for."""
    return element("dl", *(join(element("dt", name), element("dd", value)) for name, value in rows), class_="facts")


def command(text: str) -> Html:
    return element("pre", element("code", text))
