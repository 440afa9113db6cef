"""What is written for people has its units and plurals from `dreamworld.words`: hand-made ones are found here."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("dreamworld", "scripts", "envs", "agents")
NOUNS = [
    "bytes",
    "characters",
    "chunks",
    "classes",
    "columns",
    "cores",
    "devices",
    "digits",
    "dimensions",
    "elements",
    "environments",
    "episodes",
    "files",
    "frames",
    "gpus",
    "hours",
    "iterations",
    "keys",
    "lines",
    "losses",
    "nodes",
    "numbers",
    "pieces",
    "problems",
    "processes",
    "restarts",
    "rows",
    "runs",
    "sections",
    "seeds",
    "settings",
    "steps",
    "tasks",
    "tensors",
    "times",
    "updates",
    "values",
    "words",
    "workers",
]
COUNTED = re.compile(rf"^ (?:[a-z]+ )?({'|'.join(NOUNS)})\b(?!/)", re.IGNORECASE)
# Numbers that can't be one where they are written: (file, value).
MANY = {
    ("dreamworld/limits.py", "len(text)"),  # a text that is too long
    ("dreamworld/reading.py", "len(text)"),
    ("dreamworld/lists.py", "stop - start + len(seeds)"),  # too many
    ("dreamworld/stats/files.py", "len(rows)"),
    ("dreamworld/stats/notes.py", "max(counts)"),  # from … to
    ("dreamworld/stats/notes.py", "budgets[-1]"),
    ("dreamworld/stats/notes.py", "max(reaches)"),
    ("dreamworld/stats/groups.py", "group.label"),  # a name
    ("dreamworld/stats/html.py", "suite.suite"),
    ("dreamworld/stats/notes.py", "suite.suite"),
    ("dreamworld/stats/tables.py", "suite.suite"),
    ("dreamworld/replay/layout.py", "value.dtype"),
}


def sources():
    """{file as a text: tree} of the package, links followed once."""
    found = {}
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            if file.resolve() == file:
                found[file.relative_to(ROOT).as_posix()] = ast.parse(file.read_text("utf-8"))
    return found


def docstrings(tree):
    """Constants that are statements of their own: no user reads them in a message."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def is_text(node, pattern):
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and bool(re.fullmatch(pattern, node.value))
    )


def is_constant(node: ast.expr) -> bool:
    """Whether a value is a constant of a module, by its capitals."""
    return (isinstance(node, ast.Name) and node.id.isupper()) or isinstance(node, ast.Constant)


def faults(name, tree):
    """Lines with a plural, a unit or a share that is made by hand."""
    hidden = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in hidden:
            if re.search(r"[a-z]\(e?s\)|\b[KMGT]iB\b", node.value) and name != "dreamworld/words.py":
                yield node.lineno, node.value
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            if is_text(node.left, "e?s") or is_text(node.right, "e?s"):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.IfExp):
            if is_text(node.body, "e?s") or (is_text(node.orelse, "e?s") and is_text(node.body, "")):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.JoinedStr):
            yield from counted(name, node)


def counted(name, text):
    """Of one f-string: numbers before a plural or a unit of bytes, and shares."""
    for value, after in zip(text.values, [*text.values[1:], None]):
        if not isinstance(value, ast.FormattedValue) or is_constant(value.value):
            continue
        source = ast.unparse(value.value)
        if source.startswith("words.count("):
            continue  # it has its noun
        spec = ast.unparse(value.format_spec) if value.format_spec else ""
        following = str(after.value) if isinstance(after, ast.Constant) else ""
        if "%" in spec and "%H" not in spec:
            yield value.lineno, f"{{{source}}} as a share"
        if re.match(r" ?[kKMGT]B\b", following) and name != "dreamworld/words.py":
            yield value.lineno, f"{{{source}}}{following}"
        if COUNTED.match(following) and (name, source) not in MANY:
            yield value.lineno, f"{{{source}}}{following}"


def test_no_message_makes_its_plurals_units_and_shares_by_hand():
    found = [
        f"{name}:{line}: {what}" for name, tree in sources().items() for line, what in faults(name, tree)
    ]
    assert not found, "use dreamworld.words:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "code",
    [
        'f"{n} steps"',
        'f"{n:,} gradient steps done"',
        'f"{len(rows)} damaged rows"',
        "f\"{n} step{'s' * (n != 1)}\"",
        "f\"{n} run{'s' if n > 1 else ''}\"",
        "f\"{n} run{'' if n == 1 else 's'}\"",
        'f"{n} run(s) of it"',
        'f"{n / 2**30:.1f} GiB"',
        'f"{n / 1e9:.1f} GB"',
        'f"{a / b:.0%}"',
    ],
)
def test_hand_made_ones_are_found(code):
    assert list(faults("x.py", ast.parse(f"say({code})")))


@pytest.mark.parametrize(
    "code", ["f\"{words.count(n, 'window')} of episodes\"", 'f"{MOST} steps"', 'f"{key} is text"', '"%d" % 3']
)
def test_others_are_not(code):
    assert not list(faults("x.py", ast.parse(f"say({code})")))
