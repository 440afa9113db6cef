"""Takes code blocks and commands out of README and docs, so that tests run what stands there and nothing else.

The tutorials are not among `PAGES`, since their blocks build on each other: `test_tutorials.py` runs each of them.
"""

import itertools
import pathlib
import re
import shlex
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FOLDERS = (ROOT / "docs", ROOT / "docs" / "concepts", ROOT / "docs" / "appendix")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += [page for folder in FOLDERS for page in sorted(folder.glob("*.md"))]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


class Block(NamedTuple):
    """A fenced block: where it opens, its language, its text."""

    place: str
    language: str
    text: str


def blocks(*languages, pages=PAGES):
    """The fenced blocks of pages in some languages."""
    found = []
    for page in pages:
        text = page.read_text("utf-8")
        for match in re.finditer(r"^```([\w{}-]*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            line = text[: match.start()].count("\n") + 1
            found.append(Block(f"{page.name}:{line}", match[1], match[2]))
    return [block for block in found if block.language in languages]


def joined(text):
    """The lines of a shell block, continued ones in one piece."""
    return re.sub(r"\\\n\s*", "", text).splitlines()


def shell_lines():
    """(place, command) of every line of the shell blocks, without comments and variables that are set before it."""
    found = []
    for block in blocks("bash", "sh"):
        for line in joined(block.text):
            words = shlex.split(line, comments=True)
            for joint, part in itertools.groupby(words, lambda word: word == "&&"):
                command = list(itertools.dropwhile(re.compile(r"[A-Z_]+=").match, part))
                if command and not joint:
                    found.append((block.place, command))
    return found


def indented(pages):
    """Where code stands in four spaces, which Markdown takes for a block and `blocks` does not see."""
    found = []
    for page in pages:
        text = re.sub(
            r"^```.*?^```", lambda m: "\n" * m[0].count("\n"), page.read_text("utf-8"), flags=re.S | re.M
        )
        lines = text.split("\n")
        pairs = enumerate(itertools.pairwise(lines), 2)
        found += [
            f"{page.name}:{number}" for number, (before, line) in pairs if not before and line[:4] == "    "
        ]
    return found


def inline_commands(pages=PAGES):
    """(place, words) of every `dreamworld …` in running text and tables."""
    found = []
    for page in pages:
        text = re.sub(r"^```.*?^```", lambda m: "\n" * m[0].count("\n"), page.read_text(), flags=re.S | re.M)
        for match in re.finditer(r"`(dreamworld [^`]+)`", text):
            line = text[: match.start()].count("\n") + 1
            found.append((f"{page.name}:{line}", shlex.split(match[1])))
    return found


def dreamworld_commands():
    """{command line: place}: what follows `dreamworld`, in blocks, in other programs' lines, and in running text."""
    found = {}
    for place, words in [*shell_lines(), *inline_commands()]:
        if words[:2] == ["docker", "build"]:  # `-t dreamworld` names an image
            continue
        for index, word in enumerate(words):
            inner = shlex.split(word) if " dreamworld " in f" {word}" and " " in word else []
            if "dreamworld" in inner:
                found[tuple(inner[inner.index("dreamworld") + 1 :])] = place
            if word == "dreamworld":
                found[tuple(words[index + 1 :])] = place
                break
    return found


def console_examples():
    """(place, command, output) of blocks that show a command after `$ ` and what it prints."""
    found = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((block.place, command, output))
    return found


def links(page):
    """(words, path, fragment) of every relative link of a page, and of every picture."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.S | re.M)
    found = re.findall(r"\[([^\]]*)\]\(([^)#\s]*)#?([^)\s]*)\)", text)
    return [link for link in found if "://" not in link[1]]


def slugs(path):
    """Anchors of a page's headings, as GitHub makes them."""
    return anchors(path.read_text("utf-8"))


def anchors(text):
    """Those of the text of a page."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    heads = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}
