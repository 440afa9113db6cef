"""Draws the figures of the concept pages as SVG: `python docs/concepts/figures.py` writes them beside itself.

Each has a light ground of its own, so that it can be read on a dark page, too. Text stays text.
"""

import math
import pathlib

INK, SOFT, LINE = "#1f2328", "#59636e", "#d1d9e0"
BLUE, ORANGE, GREEN = "#0550ae", "#bc4c00", "#116329"
RADIUS, SIZE = 4.0, 64  # of a ball and of its frame, in pixels
PAST, DREAM = "#ddf4ff", "#fff1e5"


class Picture:
    """Collects the elements of one figure."""

    def __init__(self, width, height, title):
        self.width, self.height, self.title, self.parts = width, height, title, []

    def line(self, x, y, x2, y2, color=INK, width=1.5, dash="", arrow=False):
        extra = (f' stroke-dasharray="{dash}"' if dash else "") + (' marker-end="url(#tip)"' if arrow else "")
        ends = f'x1="{x:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        self.parts.append(f'<line {ends} stroke="{color}" stroke-width="{width}"{extra}/>')

    def curve(self, points, color, width=2.0, dash="", arrow=False):
        extra = (f' stroke-dasharray="{dash}"' if dash else "") + (
            ' marker-end="url(#blue)"' if arrow else ""
        )
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(
            f'<polyline points="{places}" fill="none" stroke="{color}" stroke-width="{width}"{extra}/>'
        )

    def box(self, x, y, width, height, fill="#ffffff", color=INK, round=4):
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{round}"'
        self.parts.append(f'<rect {place} fill="{fill}" stroke="{color}"/>')

    def disc(self, x, y, radius, fill, color="none"):
        self.parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{fill}" stroke="{color}"/>'
        )

    def text(self, x, y, words, color=INK, size=13, anchor="middle", weight="normal"):
        style = f'fill="{color}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"'
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" {style}>{words}</text>')

    def svg(self):
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" font-family="Helvetica, Arial, sans-serif" role="img">'
        )
        tips = "".join(
            f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{color}"/></marker>'
            for name, color in (("tip", INK), ("blue", BLUE))
        )
        ground = f'<rect width="{self.width}" height="{self.height}" rx="8" fill="#ffffff"/>'
        head += f"\n<title>{self.title}</title>\n<defs>{tips}</defs>"
        return "\n".join([head, ground, *self.parts, "</svg>\n"])


class Axes:
    """A frame with ticks inside a picture; places are given in its own units."""

    def __init__(self, picture, box, x, y, *, log=False):
        self.picture, self.box, self.x, self.y, self.log = picture, box, x, y, log

    def at(self, x, y):
        left, top, width, height = self.box
        share = lambda value, low, high: (value - low) / (high - low)
        if self.log:
            share = lambda value, low, high: math.log(value / low) / math.log(high / low)
        return left + width * share(x, *self.x), top + height * (1 - share(y, *self.y))

    def ticks(self, xs, ys, x_title, y_title):
        left, top, width, height = self.box
        for value in ys:
            _, place = self.at(self.x[0], value)
            self.picture.line(left, place, left + width, place, LINE, 1)
            self.picture.text(left - 8, place + 4, f"{value:g}", SOFT, 12, "end")
        for value in xs:
            place, _ = self.at(value, self.y[0])
            self.picture.line(place, top + height, place, top + height + 4, SOFT, 1)
            self.picture.text(place, top + height + 18, f"{value:g}", SOFT, 12)
        self.picture.line(left, top + height, left + width, top + height, SOFT, 1)
        self.picture.text(left + width / 2, top + height + 36, x_title, SOFT, 12)
        self.picture.text(left - 34, top - 10, y_title, SOFT, 12, "start")

    def curve(self, points, color, dash=""):
        self.picture.curve([self.at(x, y) for x, y in points], color, dash=dash)


def rssm():
    """Two steps that are observed, two that are imagined."""
    picture = Picture(
        760, 330, "An RSSM: two observed steps, whose latents see the observation, and two imagined ones"
    )
    picture.box(12, 34, 362, 284, PAST, "none", 8)
    picture.box(386, 34, 362, 284, DREAM, "none", 8)
    picture.text(193, 24, "observed: z from the posterior", SOFT)
    picture.text(567, 24, "imagined: z from the prior", SOFT)
    for index, x in enumerate((70, 250, 430, 610)):
        seen, mark = index < 2, ("t", "t+1", "t+2", "t+3")[index]
        picture.box(x - 25, 140, 74, 36)
        picture.text(x + 12, 163, f"h({mark})", weight="bold")
        picture.disc(x + 12, 88, 26, "#ffffff", INK)
        picture.text(x + 12, 92, f"z({mark})", BLUE if seen else ORANGE, 12, weight="bold")
        picture.line(x + 12, 140, x + 12, 116, arrow=True)
        heads = ("x&#770;, r&#770;, c&#770;", "r&#770;, c&#770;")[not seen]
        picture.text(x + 12, 52, heads, SOFT, 12)
        if seen:
            picture.box(x - 13, 258, 50, 30, "#ffffff", BLUE)
            picture.text(x + 12, 278, f"x({mark})", BLUE, 12)
            picture.curve([(x - 13, 273), (x - 36, 273), (x - 36, 88), (x - 15, 88)], BLUE, 1.5, arrow=True)
        if index < 3:
            picture.line(x + 49, 158, x + 153, 158, arrow=True)
            picture.line(x + 36, 100, x + 152, 146, arrow=True)
            picture.box(x + 82, 200, 40, 28, "#ffffff", SOFT)
            picture.text(x + 102, 219, f"a({mark})", SOFT, 12)
            picture.line(x + 122, 204, x + 152, 174, arrow=True)
    picture.text(193, 308, "replay gives x and a", SOFT, 12)
    picture.text(567, 308, "the actor gives a; nothing is seen", SOFT, 12)
    return picture.svg()


def symlog():
    """symlog beside the identity, and the two-hot code of one number."""
    picture = Picture(
        760, 300, "symlog beside the identity, and the two-hot code of 300 on bins of the example"
    )
    axes = Axes(picture, (56, 40, 300, 200), (-20, 20), (-6, 6))
    axes.ticks((-20, -10, 0, 10, 20), (-6, -3, 0, 3, 6), "x", "symlog(x)")
    axes.curve([(x, x) for x in (-6, 6)], SOFT, "4 4")
    points = [x / 4 for x in range(-80, 81)]
    axes.curve([(x, math.copysign(math.log1p(abs(x)), x)) for x in points], BLUE)
    picture.text(*axes.at(7.8, 5.2), "x", SOFT)
    picture.text(*axes.at(11, 0.9), "sign(x) ln(1+|x|)", BLUE)
    bins = [round(math.expm1(x)) for x in (0, 2, 4, 6, 8)]
    low, high = bins[2], bins[3]
    share = (300 - low) / (high - low)
    picture.text(565, 30, "two-hot code of 300", SOFT)
    for index, value in enumerate(bins):
        x, weight = 440 + index * 62, {2: 1 - share, 3: share}.get(index, 0)
        picture.box(x - 18, 240 - 160 * weight, 36, 160 * weight + 0.5, ORANGE, "none", 1)
        picture.text(x, 258, f"{value:,}", SOFT, 12)
        if weight:
            picture.text(x, 232 - 160 * weight, f"{weight:.2f}", ORANGE)
    picture.line(412, 240, 716, 240, SOFT, 1)
    picture.text(565, 276, "symexp(0), symexp(2), …, symexp(8)", SOFT, 12)
    return picture.svg()


def lambda_return():
    """The example of the page: three imagined steps, lambda = 0.5."""
    picture = Picture(
        760, 250, "Lambda-returns of three imagined steps, computed from the last one backwards"
    )
    rows = [
        ("", "4.42"),
        ("r=1  c=0.9  v=4", "3.60"),
        ("r=0  c=0.9  v=3", "5.00"),
        ("r=2  c=0.5  v=6", "6.00"),
    ]
    for index, (told, total) in enumerate(rows):
        x = 110 + index * 180
        picture.disc(x, 60, 26, PAST if index == 0 else DREAM, INK)
        picture.text(x, 65, f"s{index}", weight="bold")
        picture.text(x, 112, told, SOFT)
        picture.box(x - 44, 160, 88, 34, "#ffffff", BLUE)
        picture.text(x, 182, f"R{index} = {total}", BLUE, weight="bold")
        if index < 3:
            picture.line(x + 28, 60, x + 150, 60, arrow=True)
            picture.text(x + 90, 50, f"a{index}", SOFT)
            picture.line(x + 136, 177, x + 48, 177, arrow=True)
            picture.line(x + 156, 122, x + 40, 158, SOFT, 1, "4 3", arrow=True)
    picture.text(650, 215, "= v3", SOFT)
    picture.text(380, 234, "R[t] = r[t+1] + c[t+1] (½ v[t+1] + ½ R[t+1])", INK)
    return picture.svg()


def drift():
    """Errors of half a pixel a frame: all to one side, or each to another."""
    picture = Picture(
        560, 320, "An error of half a pixel a frame: a bias grows with k, a random walk with its root"
    )
    axes = Axes(picture, (64, 36, 360, 220), (1, 100), (0.3, 100), log=True)
    axes.ticks((1, 3, 10, 30, 100), (0.5, 1, 5, 10, 50), "imagined frames k (logarithmic)", "error in pixels")
    steps = [100 ** (i / 40) for i in range(41)]
    axes.curve([(k, 0.5 * k) for k in steps], ORANGE)
    axes.curve([(k, 0.5 * math.sqrt(k)) for k in steps], BLUE)
    axes.curve([(k, 5 * (1 - 0.9**k)) for k in steps], GREEN, "5 4")
    side = axes.at(100, 1)[0] + 8
    picture.text(side, axes.at(1, 50)[1] + 4, "bias: 0.5 k", ORANGE, anchor="start")
    picture.text(side, axes.at(1, 5)[1] - 6, "contracting: L = 0.9", GREEN, anchor="start")
    picture.text(side, axes.at(1, 5)[1] + 14, "random: 0.5 √k", BLUE, anchor="start")
    return picture.svg()


def one_side(distance):
    """Area that two discs at this distance do not share: both without their lens, twice, in pixels."""
    half = min(distance / 2, RADIUS)
    lens = 2 * RADIUS**2 * math.acos(half / RADIUS) - 2 * half * math.sqrt(RADIUS**2 - half**2)
    return 2 * (math.pi * RADIUS**2 - lens)


def decibels(distance):
    """PSNR of a white disc that is drawn this far off."""
    return -10 * math.log10(one_side(distance) / SIZE**2)


def psnr():
    """PSNR of a ball against how far off it is, beside that of no ball."""
    picture = Picture(760, 320, "PSNR of a ball that is drawn some pixels off, beside that of a black frame")
    axes = Axes(picture, (56, 40, 380, 220), (0, 10), (14, 32))
    axes.ticks((0, 2, 4, 6, 8, 10), (15, 20, 25, 30), "pixels off", "PSNR in dB")
    points = [0.2 + i / 20 for i in range(197)]
    axes.curve([(x, decibels(x)) for x in points if decibels(x) < 32], BLUE)
    black = -10 * math.log10(math.pi * RADIUS**2 / SIZE**2)
    axes.curve([(0, black), (10, black)], ORANGE, "5 4")
    picture.text(*axes.at(7.4, black - 1.4), f"no ball at all: {black:.1f}", ORANGE)
    x, y = axes.at(4, decibels(4))
    picture.disc(x, y, 4, BLUE)
    picture.text(x - 8, y + 20, f"4 px off: {decibels(4):.1f}", BLUE, anchor="end")
    frames = (
        ("truth", (26,), ""),
        ("4 px off", (30,), f"{decibels(4):.1f} dB"),
        ("no ball", (), f"{black:.1f} dB"),
    )
    for index, (name, places, score) in enumerate(frames):
        left, top, scale = 480 + index * 92, 90, 1.25
        picture.box(left, top, 80, 80, "#000000", "none", 0)
        for place in places:
            picture.disc(left + scale * place, top + scale * 32, scale * RADIUS, "#ffffff")
        if index:
            picture.parts.append(
                f'<circle cx="{left + scale * 26:.1f}" cy="{top + scale * 32:.1f}" r="{scale * RADIUS:.1f}" '
                'fill="none" stroke="#9198a1" stroke-dasharray="2 2"/>'
            )
        picture.text(left + 40, top - 10, name, INK)
        picture.text(left + 40, top + 102, score, SOFT)
    return picture.svg()


FIGURES = {
    "rssm": rssm,
    "symlog": symlog,
    "lambda_return": lambda_return,
    "drift": drift,
    "psnr": psnr,
}


def main():
    for name, draw in FIGURES.items():
        (pathlib.Path(__file__).parent / f"{name}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
