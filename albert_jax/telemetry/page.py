"""HTML of the report: a few builders and one style sheet, for light and dark screens, no outside assets."""

import base64
import html
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path


def section(title: str, body: str) -> str:
    """A heading and, already HTML, what stands under it."""
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def image(title: str, path: Path, style: str = "") -> str:
    """A PNG, taken into the page itself."""
    data = base64.b64encode(path.read_bytes()).decode()
    source = f"data:image/png;base64,{data}"
    return f'<figure class="{style}"><img alt="{html.escape(title)}" src="{source}"></figure>'


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], rule_before: int = -1) -> str:
    """Cells are plain text. No headers, no head; a line is drawn above row number `rule_before`."""
    head = "".join(f"<th>{html.escape(header)}</th>" for header in headers)
    head = f"<thead><tr>{head}</tr></thead>" if headers else ""
    body = "".join(
        ("<tr class=rule>" if number == rule_before else "<tr>")
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        + "</tr>"
        for number, row in enumerate(rows)
    )
    return f"<div class=scroll><table>{head}<tbody>{body}</tbody></table></div>"


def render_page(title: str, body: str) -> str:
    """The whole document; it refers to nothing outside itself."""
    written = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main><header><h1>{html.escape(title)}</h1>"
        f"<p class=note>albert_jax report, {written}</p></header>{body}</main></body></html>\n"
    )


_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #1b1f24; --soft: #5b6570;
  --line: #dfe3e8; --alarm: #b42318 }
@media (prefers-color-scheme: dark) { :root { --page: #0d1117; --card: #151b23; --ink: #e6e9ed;
  --soft: #9aa4af; --line: #2b333d; --alarm: #ff8a7a } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px }
h1 { font-size: 26px; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 18px; margin: 34px 0 12px }
h3 { font-size: 14px; margin: 0 0 6px }
.note { color: var(--soft); margin: 2px 0 0; font-size: 13px }
.tiles, .grid { display: grid; gap: 14px }
.tiles { grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); margin-top: 22px }
.grid { grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)) }
.cards { columns: 320px; column-gap: 14px }
.tile, .card, figure, .events, pre { background: var(--card); border: 1px solid var(--line);
  border-radius: 10px }
.tile { padding: 12px 14px }
.tile b { display: block; font-size: 24px; font-variant-numeric: tabular-nums }
.tile span { display: block }
.tile small { color: var(--soft) }
.card { padding: 12px 14px; margin-bottom: 14px; break-inside: avoid }
figure { margin: 0; padding: 10px }
figure.wide { margin-top: 14px; text-align: center }
img { max-width: 100%; height: auto; display: block; margin: 0 auto }
figure.wide img { max-width: min(100%, 820px) }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; width: 100% }
section > .scroll { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 6px 14px; margin-bottom: 14px }
th { text-align: left; color: var(--soft); font-weight: 500 }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top }
tr:last-child td { border-bottom: 0 }
td:not(:first-child), th:not(:first-child) { text-align: right; padding-right: 4px }
.rule td { border-top: 2px solid var(--soft) }
.card td:first-child { color: var(--soft) }
.card td:last-child { overflow-wrap: anywhere }
pre { padding: 12px 14px; overflow-x: auto; font-size: 13px }
.events { list-style: none; margin: 0; padding: 10px 14px }
.events li { padding: 3px 0 }
.step { color: var(--soft); font-variant-numeric: tabular-nums; margin-right: 6px }
.alarm { color: var(--alarm) }
"""
