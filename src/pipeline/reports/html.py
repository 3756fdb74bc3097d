"""Build self-contained HTML pages: no network, no script."""

import base64
import html
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from importlib.resources import files

from pipeline.reports.evaluation_statistics import Ints

VOID_TAGS = frozenset(("br", "img", "meta", "link", "hr"))


class Html(str):
    """Markup that needs no escaping."""


Child = str | None


def element(tag: str, *children: Child, **attributes: object) -> Html:
    """Return an element; `class_` means class, underscores mean hyphens, and None omits an attribute or child."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in VOID_TAGS:
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{join_html(*children)}</{tag}>")


def join_html(*children: Child) -> Html:
    return Html("".join(each if isinstance(each, Html) else html.escape(each) for each in children if each is not None))


def table(head: Sequence[str], rows: Iterable[Sequence[Child]], *, class_: str | None = None) -> Html:
    """Return a table whose first column names the rows; the style sheet aligns the others to the right."""
    first, *others = head
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])) for row in rows
    ]
    columns = element("tr", element("th", first, scope="col"), *(element("th", name, scope="col") for name in others))
    whole = element("table", element("thead", columns) if any(head) else None, element("tbody", *body), class_=class_)
    return element("div", whole, class_="scroll")


def definition_list(rows: Iterable[tuple[str, Child]]) -> Html:
    """Return a list of names and values."""
    return element(
        "dl", *(join_html(element("dt", name), element("dd", value)) for name, value in rows), class_="facts"
    )


def code_block(text: str) -> Html:
    return element("pre", element("code", text))


# The browser must fetch nothing, whatever user text the page contains.
CONTENT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, *content: Child) -> str:
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=CONTENT_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(_read("style.css") + _read("chart.css"))),
    )
    return f"<!doctype html>\n{element('html', head, element('body', *content), lang='en')}\n"


def chart_style() -> tuple[str, dict[str, str]]:
    """Return the style sheet of charts, and its colours on light paper, {name: colour}."""
    light = _read("style.css").partition("}")[0]
    return _read("chart.css"), dict(re.findall(r"--([\w-]+): ([^;]+);", light))


def _read(name: str) -> str:
    return files("pipeline.reports").joinpath(name).read_text(encoding="utf-8")


def section(title: str, *content: Child) -> Html | None:
    """Return a titled section, or None if it has no content."""
    present = [each for each in content if each]
    return element("section", element("h2", title), *present) if present else None


def columns(*content: Child) -> Html | None:
    present = [each for each in content if each]
    return element("div", *present, class_="columns") if present else None


def headline_figures(figures: list[tuple[str, str, str]]) -> Html:
    """Return large figures, each as (name, value, remark); the first is the largest."""
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


def remark(text: str) -> Html:
    return element("p", text, class_="quiet small")


def paragraphs(*sentences: str) -> Html:
    return join_html(*(element("p", sentence) for sentence in sentences))


GREY, COLOUR = 0, 2  # colour types of PNG (ISO/IEC 15948, 11.2.2)


def encode_png(pixels: Ints) -> bytes:
    """Encode (H, W) or (H, W, 3) uint8 pixels as PNG."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)  # each row begins with its filter type: none
    header = struct.pack(">IIBBBBB", width, height, 8, GREY if pixels.ndim == 2 else COLOUR, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_data_uri(content: bytes) -> str:
    """Return a data: URI of a PNG, to embed it."""
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"


def image(pixels: Ints, description: str) -> Html:
    return element("img", src=png_data_uri(encode_png(pixels)), alt=description)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
