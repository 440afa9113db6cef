"""The report as one page that needs nothing else: inline pictures, light and dark, readable on a phone."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from html import escape

from dreamworld import words
from dreamworld.stats import dreams, plots
from dreamworld.stats.analysis import Analysis
from dreamworld.stats.notes import describe, method
from dreamworld.stats.scores import differences, setting, settings
from dreamworld.stats.tables import Table, tables

STYLE = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #5b6675; --line: #dfe4ea; --page: #f5f7f9;
  --card: #fff; --mark: #fff6e0; --markline: #e6b94a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ee; --soft: #98a4b3; --line: #2c3540;
  --page: #11161c; --card: #191f27; --mark: #2a2415; --markline: #8a6d22; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 20px 16px 48px; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 8px 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 36px 0 10px; }
p { margin: 6px 0; } .soft { color: var(--soft); font-size: .88rem; }
.notes { background: var(--mark); border-left: 4px solid var(--markline); border-radius: 6px;
  padding: 10px 16px; margin: 18px 0; }
.notes h2 { margin: 0 0 4px; font-size: 1rem; } .notes ul { margin: 0; padding-left: 18px; }
.notes li { margin: 3px 0; overflow-wrap: anywhere; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px;
  margin: 0; min-width: 0; }
.card svg { display: block; width: 100%; height: auto; }
.wide { overflow-x: auto; margin: 12px 0; } .wide svg { min-width: 560px; }
.grid { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); }
.pair { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr));
  margin: 12px 0; align-items: start; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 4px 0 10px; font-size: .9rem; }
.chip { display: inline-block; width: 22px; height: 4px; border-radius: 2px; vertical-align: middle;
  margin-right: 6px; }
.table { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 12px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; } tr:last-child td { border-bottom: 0; }
th.words, td.words { text-align: left; }
td.repeat { color: transparent; }
.media img, .media video { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.media { align-self: start; } .media.wide { grid-column: 1 / -1; } .media.wide img { min-width: 560px; }
summary { cursor: pointer; margin: 10px 0; } code { font-size: .85em; }
"""
WORDS = {"task", "method", "suite", "X", "Y", "host", "setting"}


def page(analysis: Analysis, title: str) -> str:
    """The whole report as HTML."""
    body = [_head(analysis, title), _notes(analysis), _suites(analysis), _curves(analysis)]
    body.append(dreams.section(analysis))
    body += [_table(table) for table in tables(analysis) if not table.title.startswith("Aggregate")]
    body += [_settings(analysis), f'<h2>Method</h2><p class="soft">{escape(method(analysis))}</p>']
    return document(title, body)


def document(title: str, body: Sequence[str], style: str = "") -> str:
    """A page of these parts, the empty ones left out, with `style` beside the usual one."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>\n<body><main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main></body></html>\n"
    )


def figure(name: str, draw: plots.Draw, caption: str, kind: str = "card") -> str:
    """A plot and what it shows."""
    return captioned(plots.inline_svg(name, draw, escape(caption, quote=True)), caption, kind)


def captioned(content: str, caption: str, kind: str) -> str:
    """Content of CSS class `kind` and what it shows."""
    return f'<figure class="{kind}">{content}<figcaption class="soft">{escape(caption)}</figcaption></figure>'


def _head(analysis: Analysis, title: str) -> str:
    runs = sum(len(group.runs) for group in analysis.groups)
    seeds = {run.seed for group in analysis.groups for run in group.runs}
    day = datetime.date.today().isoformat()
    counts = [
        (runs, "run"),
        (len(analysis.tasks), "task"),
        (len(seeds), "seed"),
        (len(analysis.groups), "method"),
    ]
    shown = " · ".join(words.count(count, name) for count, name in counts)
    return f'<h1>{escape(title)}</h1><p class="soft">{shown} · {day} · dreamworld report</p>'


def _notes(analysis: Analysis) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in describe(analysis))
    if not items:
        return ""
    return f'<section class="notes"><h2>What these numbers rest on</h2><ul>{items}</ul></section>'


def _figure(analysis: Analysis, name: str, caption: str, wide: bool = False) -> str:
    draw = plots.figures(analysis).get(name)
    if draw is None:
        return ""
    return figure(name, draw, caption, "card wide" if wide else "card")


def _suites(analysis: Analysis) -> str:
    parts = []
    found = {table.title: table for table in tables(analysis)}
    for suite in analysis.suites:
        title = f"Aggregate over {suite.suite} tasks"
        parts.append(_table(found[title]))
        parts.append('<div class="pair">')
        parts.append(_figure(analysis, f"profiles_{suite.suite}", "Performance profile: higher is better."))
        parts.append(
            _figure(
                analysis, f"improvement_{suite.suite}", "Probability of improvement: 0.5 is no difference."
            )
        )
        parts.append("</div>")
        parts.append(_figure(analysis, f"aggregates_{suite.suite}", "Bars are 95% intervals.", wide=True))
        caption = "Sample efficiency and wall-clock: IQM over all runs."
        parts.append(_figure(analysis, f"efficiency_{suite.suite}", caption, wide=True))
    return "\n".join(parts)


def _curves(analysis: Analysis) -> str:
    chips = [(label, colour) for label, (colour, _) in plots.style_of(analysis).items()]
    settings_of = {task.published.settings_text for task in analysis.tasks if task.published}
    chips += [(f"published ± std over seeds ({text})", plots.GREY) for text in sorted(settings_of)]
    legend = "".join(
        f'<span><span class="chip" style="background:{colour}"></span>{escape(label)}</span>'
        for label, colour in chips
    )
    cards = []
    for task in plots.drawn_tasks(analysis):
        svg = plots.inline_svg(
            task.task,
            lambda task=task: plots.figure_task(analysis, task),
            escape(f"Learning curves of {task.task}", quote=True),
        )
        under = f"Published: {task.published.seeds_text}." if task.published else ""
        note = f'<figcaption class="soft">{escape(under)}</figcaption>' if under else ""
        cards.append(f'<figure class="card">{svg}{note}</figure>')
    about = (
        "Bold: mean over counted runs with 95% interval. Thin: single runs; × ends a run that is left out."
    )
    return (
        f'<h2>Learning curves</h2><div class="legend">{legend}</div><div class="grid">'
        + "\n".join(cards)
        + f'</div><p class="soft">{about}</p>'
    )


def _table(table: Table) -> str:
    left = [name in WORDS for name in table.head]
    head = "".join(f"<th{_words(words)}>{escape(name)}</th>" for name, words in zip(table.head, left))
    rows = []
    for index, row in enumerate(table.rows):
        follows = index > 0 and table.rows[index - 1][0] == row[0] and table.head[0] == "task"
        cells = "".join(
            f"<td{_words(words, 'repeat' if follows and column == 0 else '')}>{escape(cell)}</td>"
            for column, (cell, words) in enumerate(zip(row, left))
        )
        rows.append(f"<tr>{cells}</tr>")
    return (
        f'<h2>{escape(table.title)}</h2><p class="soft">{escape(table.caption)}</p>'
        f'<div class="table"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _words(words: bool, more: str = "") -> str:
    names = " ".join(name for name in ("words" if words else "", more) if name)
    return f' class="{names}"' if names else ""


def _settings(analysis: Analysis) -> str:
    """The settings of each group, those that differ between groups first."""
    flat = {group.label: settings(group.runs[0]) for group in analysis.groups if group.runs}
    keys = sorted({key for values in flat.values() for key in values})
    if not keys:
        return ""
    first = next(iter(flat.values()))
    differ = sorted({key for values in flat.values() for key in differences(first, values)})
    same = [key for key in keys if key not in differ]
    parts = ["<h2>Settings</h2>"]
    if differ:
        rows = [[key, *(str(setting(values, key)) for values in flat.values())] for key in differ]
        table = Table("", ["setting", *flat], rows)
        parts.append(_table(table).replace('<h2></h2><p class="soft"></p>', ""))
    lines = "\n".join(f"{key}: {setting(first, key)}" for key in same)
    parts.append(
        f"<details><summary>{words.count(len(same), 'setting')}, the same for all (of each group's first run)</summary>"
        f'<pre class="card"><code>{escape(lines)}</code></pre></details>'
    )
    return "".join(parts)
