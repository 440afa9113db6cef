"""Who may import whom, and which modules must stay light."""

import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("dreamworld", "agents", "envs", "scripts")

# Of what lies on disk or is typed in, for everybody.
READING = {"text", "reading", "plainyaml", "npy", "writing", "fields", "values", "brackets", "lists", "words"}
BASE = {
    "types",
    "config",
    "contract",
    "options",
    "plan_options",
    "agents.dreamerv3.config",
    "errors",
    "exits",
    "limits",
    "presets",
    "schema",
    "spaces",
    "streams",
    "system",
    "frames",
    "runenv",
    "trust",
} | READING
LEAVES = {"math", "dists", "nets", "layers", "convnets", "ops", "optim", "parallel", "precision", "random"}
MODEL = BASE | LEAVES | {"rollout"}
SHELL = BASE | {"replay", "logging"}

# What a module or package may import from dreamworld, beside itself. The most specific entry holds.
ALLOWED = {
    "types": {"errors"},
    "errors": set(),
    "exits": set(),
    "words": set(),
    "text": {"errors", "words"},
    "values": {"errors", "limits", "words", "brackets"},
    "brackets": {"errors"},
    "lists": {"errors", "limits", "brackets"},
    "reading": {"errors", "text", "values", "words"},
    "plainyaml": {"reading", "values"},
    "npy": {"reading", "words"},
    "writing": set(),
    "fields": {"errors", "text", "reading", "words"},
    "contract": {"types", "errors"},
    "options": {"errors", "limits", "values"},
    "plan_options": {"errors", "limits", "words"},
    "config": {"agents.dreamerv3.config", "options", "types", "errors", "limits", "values"},
    "dream": MODEL,
    "dream_env": MODEL | {"dream"},
    "probe": MODEL | {"dream", "models", "training.step"},
    "limits": {"errors"},
    "schema": {"errors", "limits", "text", "words", "lists", "values"},
    "presets": {"agents", "trust", "types", "config", "options", "errors", "limits", "schema"} | READING,
    "spaces": {"types", "errors"} | READING,
    "runenv": {"types", "errors", "spaces"} | READING,
    "trust": {"errors", "system"} | READING,
    "testing": {"types", "config", "agents"},
    "cli": BASE | {"agents"},
    "launch": {"exits"},
    "streams": {"words"},
    "system": {"errors"},
    "early": {"cli", "exits"},
    "frames": set(),
    "flops": set(),
    "probes": {"words"},
    **dict.fromkeys(LEAVES, BASE | LEAVES),
    "rollout": BASE | LEAVES,
    "models": MODEL,
    "behaviours": MODEL,
    "replay": BASE,
    "logging": BASE,
    "envs": BASE,
    "datasets": SHELL | {"envs"},
    "stats": SHELL,
    "assess": MODEL | SHELL | {"dream", "dream_env", "datasets", "envs", "stats"},
    "training": MODEL | SHELL | {"training", "flops", "dream", "datasets"},
    "training.step": MODEL | {"models", "behaviours"},
    "sessions": MODEL
    | SHELL
    | {
        "agents",
        "assess",
        "behaviours",
        "cli",
        "datasets",
        "envs",
        "flops",
        "launch",
        "player",
        "stats",
        "training",
    },
    "play": MODEL
    | SHELL
    | {"agents", "assess", "cli", "datasets", "dream", "dream_env", "envs", "player", "sessions", "training"},
    "player": BASE | {"envs", "policy"},
    "policy": BASE | {"envs", "player"},
    "agents": {"config", "contract", "envs", "errors", "limits", "options", "probe", "types", "words"},
    "agents.*.config": {"agents", "errors", "limits", "options"},
    "agents.r2dreamer.config": {"agents", "agents.dreamerv3.config", "limits", "options"},
    "agents.r2dreamer.agent": MODEL | {"agents.dreamerv3", "models"},
    "agents.*.agent": MODEL | {"models", "behaviours", "training.step"},
}
# These join everything, and nothing imports them.
JOINERS = {"scripts", "__main__", "__init__", "benchmarks", "sweep"}


def modules():
    """{dotted name without `dreamworld.`: file} of every module, links followed once."""
    found = {}
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            is_link = folder == "dreamworld" and (ROOT / folder / parts[1]).is_symlink()
            if not is_link and "__pycache__" not in parts:
                name = ".".join(parts[1:] if folder == "dreamworld" else parts)
                found[name.removesuffix(".__init__")] = file
    return found


def imported(tree, name, is_package):
    """[(line, dotted name)] of everything that a module imports, inside functions, too."""
    package = ["dreamworld", *name.split(".")] if is_package else ["dreamworld", *name.split(".")[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def rule(name):
    """The entry of ALLOWED for a module, None for what may import everything."""
    parts = name.split(".")
    if parts[0] in JOINERS:
        return None
    if parts[0] == "agents" and len(parts) == 3 and name not in ALLOWED:
        parts[1] = "*"  # the same holds for every other agent
    for length in range(len(parts), 0, -1):
        key = ".".join(parts[:length])
        if key in ALLOWED:
            return key
    raise AssertionError(f"{name}: no import rule for this module; add one to {__file__}")


def fits(target, owner, allowed):
    """Whether `target` is in the module's own package, or in an allowed one."""
    within = [owner.split(".")[0] if owner != "training.step" else owner, *allowed]
    return any(target == item or target.startswith(f"{item}.") for item in within)


def violations(name, tree, is_package):
    owner = rule(name)
    for line, target in imported(tree, name, is_package):
        head, _, rest = target.partition(".")
        if head in ("agents", "envs", "scripts", "configs"):
            yield f"{name}:{line} imports {target}: write dreamworld.{target}"
        if head == "dreamworld" and owner is not None and rest and not fits(rest, owner, ALLOWED[owner]):
            allowed = ", ".join(sorted(ALLOWED[owner]))
            yield f"{name}:{line} imports {target}: {owner} may import only {allowed}"


def test_imports_point_one_way():
    found = []
    for name, file in modules().items():
        found += violations(name, ast.parse(file.read_text()), file.name == "__init__.py")
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("name", "code", "word"),
    [
        ("models.rssm", "from dreamworld.behaviours import actor_critic", "models may import only"),
        ("replay.replay", "def f():\n    import dreamworld.training.loop", "replay may import only"),
        ("training.loop", "from dreamworld.agents.dreamerv3 import make_agent", "training may import only"),
        ("envs.base", "from envs import factory", "write dreamworld.envs"),
        ("sessions.build", "from dreamworld.scripts import train", "sessions may import only"),
        ("training.loop", "from dreamworld.sessions import build", "training may import only"),
        ("logging.writers", "from ..training import loop", "logging may import only"),
    ],
)
def test_a_wrong_import_is_named(name, code, word):
    (line,) = violations(name, ast.parse(code), False)
    assert word in line and line.startswith(f"{name}:")


def test_type_checking_imports_count_too():
    code = "if TYPE_CHECKING:\n    from dreamworld.envs import base"
    assert list(violations("replay.replay", ast.parse(code), False))


def test_the_modules_of_replay_import_each_other_in_no_circle():
    found = {name: file for name, file in modules().items() if name.startswith("replay.")}
    needs = {}
    for name, file in found.items():
        targets = [target for _, target in imported(ast.parse(file.read_text()), name, False)]
        needs[name] = [
            other
            for other in found
            if any(f"{target}.".startswith(f"dreamworld.{other}.") for target in targets)
        ]
    order = list(graphlib.TopologicalSorter(needs).static_order())  # CycleError names the circle
    assert order.index("replay.state") < order.index("replay.persist") < order.index("replay.replay")


ON_THE_DEVICE = "replay.device"  # replay for the fused mode: the one module of replay that is JAX
# They know environments, which load PIL.
FOREIGN = ("datasets.columns", "datasets.formats", "datasets.interchange")
LIGHT = {*BASE, "early", "cli", "launch", "__main__", "logging", "replay", "datasets"}
WORKER = ("envs", "envs.base", "envs.factory", "envs.wrappers", "envs.vector.worker")
LEARNING = ("jax", "flax", "optax", "orbax", "matplotlib", "tensorboardX", "wandb", "tyro")


@pytest.mark.parametrize(
    ("names", "heavy"),
    [
        (
            [
                "",
                *(
                    n
                    for n in modules()
                    if n.split(".")[0] in LIGHT and not n.startswith((ON_THE_DEVICE, *FOREIGN))
                ),
            ],
            (*LEARNING, "gymnasium", "PIL", "cv2"),
        ),
        (WORKER, LEARNING),
        ([name for name in modules() if name.startswith(FOREIGN)], (*LEARNING, "minari", "h5py")),
    ],
    ids=["light modules", "environment worker", "formats of data sets"],
)
def test_importing_stays_light(names, heavy):
    code = f"""
import importlib, sys
for name in {sorted(names)}:
    importlib.import_module(f"dreamworld.{{name}}".rstrip("."))
    loaded = [package for package in {heavy} if package in sys.modules]
    assert not loaded, f"dreamworld.{{name}} loads {{loaded}}"
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
