"""Judged worlds as one page that needs nothing else, in the style of `dreamworld report`."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from html import escape

from dreamworld import words
from dreamworld.assess import figures, table
from dreamworld.assess.judge import Judged
from dreamworld.assess.levels import summary
from dreamworld.assess.segments import Segments
from dreamworld.assess.strips import Strip, fan_picture, picture
from dreamworld.stats.html import captioned, document, figure

MORE = """
.strip img { image-rendering: pixelated; width: 100%; min-width: 640px; display: block; }
.yes { color: #1fa37a; font-weight: 600; } .no { color: #d9534f; font-weight: 600; }
.levels td { white-space: normal; } .levels td.mark { white-space: nowrap; }
tr.topic td { font-weight: 600; border-bottom: 0; padding-top: 14px; }
"""


def page(judged: Sequence[Judged], segments: Segments, strips: Sequence[list[Strip]], title: str) -> str:
    """The whole page as HTML; `strips` are those of each world."""
    body = [_head(segments, title), _cards(judged), _drift(judged, segments), _strips(judged, strips)]
    body += [_calibration(judged), _fans(judged, segments), _table(judged), _left_out(judged), _method()]
    return document(title, body, MORE)


def _head(segments: Segments, title: str) -> str:
    rows = f"{segments.context} seen and {words.count(segments.horizon, 'imagined row')}"
    shown = [
        words.count(len(segments), "segment"),
        words.count(segments.episodes, "episode"),
        rows,
        f"hash {segments.hash}",
        datetime.date.today().isoformat(),
        "dreamworld assess",
    ]
    return f'<h1>{escape(title)}</h1><p class="soft">{escape(" · ".join(shown))}</p>'


def _cards(judged: Sequence[Judged]) -> str:
    """The level card of each world."""
    parts = ["<h2>Levels</h2>"]
    for one, head in zip(judged, table.heads(judged)):
        rows = []
        for level in one.card:
            mark = {True: ("yes", "reached"), False: ("no", "not reached"), None: ("soft", "not measured")}
            css, text = mark[level.reached]
            cells = "".join(f'<td class="words">{escape(cell)}</td>' for cell in (level.asks, level.shown))
            rows.append(
                f'<tr><td class="words">{level.name}</td><td class="words mark {css}">{text}</td>{cells}</tr>'
            )
        heads = "".join(f'<th class="words">{name}</th>' for name in ("level", "", "asks for", "found"))
        parts.append(
            f'<p><b>{escape(head)}</b>: {escape(summary(one.card))}</p><div class="table levels"><table><thead><tr>'
            f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        )
    return "\n".join(parts)


def _pictures(url: str, caption: str) -> str:
    content = f'<img alt="{escape(caption, quote=True)}" src="{url}">'
    return captioned(content, caption, "card wide strip")


def _drift(judged: Sequence[Judged], segments: Segments) -> str:
    cards = [figure(name, draw, caption) for name, caption, draw in figures.curves(judged, segments)]
    if not cards:
        return ""
    about = (
        "Bands are 95% intervals over episodes. Grey: models that need no learning, and reality played again; dotted: "
        "the model that sees every row."
    )
    return f'<h2>Drift</h2><p class="soft">{about}</p><div class="pair">' + "\n".join(cards) + "</div>"


def _strips(judged: Sequence[Judged], strips: Sequence[list[Strip]]) -> str:
    parts = []
    for one, own in zip(judged, strips):
        for strip in own:
            caption = (
                f"{one.name}, {strip.name} segment ({strip.number}): what happened, what was dreamt, their difference. "
                f"Rows {strip.rows}; the first {words.count(strip.seen, 'picture')} are seen."
            )
            parts.append(_pictures(picture(strip), caption))
    return "<h2>Dreams</h2>" + "\n".join(parts) if parts else ""


def _calibration(judged: Sequence[Judged]) -> str:
    if not any("cont" in one.sheet.diagrams for one in judged):
        return ""
    card = figure(
        "reliability",
        lambda: figures.reliability(judged),
        "Probability that the episode goes on: said, and how often it did.",
    )
    more = [figure(name, draw, caption) for name, caption, draw in figures.rewards(judged)]
    return '<h2>Rewards and ends</h2><div class="pair">' + "\n".join([card, *more]) + "</div>"


def _fans(judged: Sequence[Judged], segments: Segments) -> str:
    parts = []
    for one in judged:
        found = fan_picture(one, segments)
        if found is None:
            continue
        url, actions = found
        caption = (
            f"{one.name}: one start, {words.count(actions, 'action')} held, a row each: what happens on the left, "
            "what is dreamt on the right."
        )
        parts.append(_pictures(url, caption))
    return "<h2>Counterfactuals</h2>" + "\n".join(parts) if parts else ""


def _table(judged: Sequence[Judged]) -> str:
    head = '<th class="words"></th>' + "".join(f"<th>{escape(name)}</th>" for name in table.heads(judged))
    rows = []
    for label, cells in table.rows(judged):
        css = "" if any(cells) else ' class="topic"'
        inner = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr{css}><td class="words">{escape(label)}</td>{inner}</tr>')
    return (
        '<h2>All numbers</h2><p class="soft">With 95% intervals by the bootstrap over episodes.</p>'
        '<div class="table"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _left_out(judged: Sequence[Judged]) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in table.left_out(judged))
    if not lines:
        return ""
    return f'<section class="notes"><h2>Left out</h2><ul>{lines}</ul></section>'


def _method() -> str:
    return (
        '<h2>Method</h2><p class="soft">Each metric, its formula, how to read it and when it misleads: '
        "docs/assess.md. PSNR is taken of every frame and then averaged. On a picture of 64 pixels a ball of radius 4 "
        "that is 4 pixels off scores less than no ball: read presence and places beside it.</p>"
    )
