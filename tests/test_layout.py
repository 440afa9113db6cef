"""The shape of the checkout and of its files."""

import ast
import pathlib

import pytest
import yaml

from dreamworld import plainyaml
from dreamworld.__main__ import COMMANDS

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = sorted(
    file
    for folder in ("dreamworld", "agents", "envs", "scripts")
    for file in (ROOT / folder).rglob("*.py")
    if "__pycache__" not in file.parts and not any((ROOT / folder / part).is_symlink() for part in file.parts)
)


@pytest.mark.parametrize("name", ["agents", "envs", "scripts", "configs"])
def test_the_link_into_the_package_is_relative(name):
    link = ROOT / "dreamworld" / name
    assert link.is_symlink()
    assert str(link.readlink()) == f"../{name}"
    assert link.resolve() == ROOT / name


def test_ci_looks_at_the_page_in_a_browser_after_the_other_tests():
    lines = [line.partition("#")[0].strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    assert lines.index("make test") < lines.index("make test-browser")


def test_every_command_has_a_script_with_main():
    for name in COMMANDS:
        tree = ast.parse((ROOT / "scripts" / f"{name}.py").read_text())
        mains = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
        assert mains, f"scripts/{name}.py has no main(argv)"
        assert mains[0].args.args[0].arg == "argv", f"scripts/{name}.py: main takes argv"


def test_scripts_holds_commands_only():
    held = {file.stem for file in (ROOT / "scripts").glob("*.py")}
    assert held == {*COMMANDS, "demo", "__init__"}  # `make demo` runs a file


def test_every_file_opens_with_what_it_is():
    bare = [
        file
        for file in SOURCES
        if file.read_text().strip() and not ast.get_docstring(ast.parse(file.read_text()))
    ]
    assert not bare


READERS = (
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
)
LOADERS = ("yaml.BaseLoader", "yaml.SafeLoader", "_BaseLoader", "_TypedSafeLoader")
PICKLERS = ("cloudpickle", "dill", "shelve", "marshal", "joblib")


def unsafe(tree):
    """Lines that could run code while reading data. Writing a pickle for a worker of ours is harmless."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    safe = {id(node.func) for node in calls if any(ast.unparse(k.value) in LOADERS for k in node.keywords)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"{node.lineno}: {alias.name}" for alias in node.names if alias.name in PICKLERS)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (
                f"{node.lineno}: {name}" for name in names if name in READERS or node.module in PICKLERS
            )
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in READERS and id(node) not in safe:
            yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
            if "allow_pickle" not in [keyword.arg for keyword in node.keywords]:
                yield f"{node.lineno}: np.load without allow_pickle=False"
        elif (
            isinstance(node, ast.keyword)
            and node.arg == "allow_pickle"
            and ast.unparse(node.value) != "False"
        ):
            yield f"{node.value.lineno}: allow_pickle={ast.unparse(node.value)}"


def test_nothing_reads_pickle():
    found = [
        f"{file.relative_to(ROOT)}:{line}" for file in SOURCES for line in unsafe(ast.parse(file.read_text()))
    ]
    assert not found, "\n" + "\n".join(found)


def test_own_loaders_of_yaml_make_plain_values_only():
    for loader in (plainyaml._BaseLoader, plainyaml._TypedSafeLoader):
        assert issubclass(loader, yaml.constructor.BaseConstructor)
        assert not issubclass(loader, yaml.constructor.FullConstructor)


@pytest.mark.parametrize(
    "code",
    [
        "pickle.loads(b)",
        "from pickle import load",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "yaml.load(f)",
    ],
)
def test_the_search_for_pickle_finds_it(code):
    assert list(unsafe(ast.parse(code)))


def test_nothing_is_left_to_do():
    words = ("TODO", "FIXME", "XXX")
    found = [
        f"{file.relative_to(ROOT)}: {word}" for file in SOURCES for word in words if word in file.read_text()
    ]
    assert not found


MAX_LINES, MAX_FUNCTION = 300, 60
MAX_ANY = 0.04  # of the annotations that are a bare `Any`; name a pytree Tree, an array Array, unchecked input object
LONG = {  # {file: why it has more than MAX_LINES lines}
    "dreamworld/contract.py": "the one place where an agent's parts are agreed on; most of it is docstrings",
    "dreamworld/models/rssm.py": "one world model: its networks, its steps and its loss explain each other",
    "dreamworld/training/checkpoint.py": "one class: a save and its background commit share every field",
    "dreamworld/training/learner.py": "one class: the compiled functions of a learner and the state that they pass on",
}


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def annotations(tree):
    """Every annotation of an argument, a return value, a field or a variable."""
    for node in functions(tree):
        args = node.args
        every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
        yield from (arg.annotation for arg in every if arg is not None and arg.annotation is not None)
        yield from [node.returns] if node.returns is not None else []
    yield from (node.annotation for node in ast.walk(tree) if isinstance(node, ast.AnnAssign))


def is_any(annotation):
    return isinstance(annotation, ast.Name) and annotation.id == "Any"


def test_files_are_short_but_for_a_reason():
    lines = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in SOURCES}
    assert {name: count for name, count in lines.items() if count > MAX_LINES and name not in LONG} == {}
    assert [name for name in LONG if lines.get(name, 0) <= MAX_LINES] == [], (
        "short by now: no reason is needed"
    )


def test_functions_are_short():
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"
        for file in SOURCES
        for node in functions(ast.parse(file.read_text()))
        if (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION
    ]
    assert found == []


def test_few_annotations_say_any():
    every = {file: list(annotations(ast.parse(file.read_text()))) for file in SOURCES}
    bare = {str(file.relative_to(ROOT)): sum(map(is_any, found)) for file, found in every.items()}
    share = sum(bare.values()) / sum(map(len, every.values()))
    most = sorted(bare, key=lambda name: -bare[name])[:10]
    assert share < MAX_ANY, f"{share:.1%} of the annotations are Any, most in {', '.join(most)}"


def test_the_count_of_any_finds_it():
    code = "x: Any\ndef f(a: Any, *b: Any, c: int, d: dict[str, Any]) -> Any: ..."
    assert sorted(map(is_any, annotations(ast.parse(code)))) == [False, False, True, True, True, True]
