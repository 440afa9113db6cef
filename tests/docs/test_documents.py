"""README and docs hold: their Python runs, their commands are accepted, what they show is what is printed."""

import os
import pathlib
import re
import subprocess
import sys
import textwrap
import tomllib

import jax
import numpy as np
import pytest

import dreamworld
from dreamworld import cli
from dreamworld.__main__ import COMMANDS, main
from dreamworld.scripts.assess import asked_study
from dreamworld.scripts.train import read
from dreamworld.sessions import assess, study_flags

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import documents

# Programs that the documents call and this project does not bring.
ELSEWHERE = {".", "pip", "make", "docker", "gcloud", "srun", "git", "source", "cd", "python", "python3"}
# What a placeholder of the documents stands for in the tests.
PLACEHOLDERS = {
    "DIR": "runs/demo", "DIR…": "runs/demo", "NAME": "gym_CartPole-v1", "TASK": "gym_CartPole-v1", "S": "0",
    "FAMILY": "gym", "FILE.yaml": "debug", "PROJECT": "project", "N": "1", "SIZE": "size1m",
    "/shared/sweeps/dmc": "runs",
}  # fmt: skip

# Runs that commands before in the same document make.
RUNS = ("catch", "dodge", "balls1/pixels-0", "balls1/pixels-1")

IN_WORKSPACE = {"my_module", "my_package", "my_env", "my_jax_env", "my_policy", "gymnax", "highway_env"}

TINY = [
    "--configs", "demo", "--run.steps", "160", "--run.train_ratio", "32", "--run.report_every", "0", "--run.save_every",
    "80", "--run.log_every", "80", "--logger.tensorboard", "False", "--run.progress", "False",
]  # fmt: skip

MODULE = '''
import gymnasium


class MyEnv(gymnasium.Env):
    """Walks on a line."""

    observation_space = gymnasium.spaces.Box(-5, 5, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.place = 0, self.np_random.uniform(-1, 1, 2).astype("float32")
        return self.place, {}

    def step(self, action):
        self.time += 1
        self.place = (self.place * 0.9 + 0.1 * action).astype("float32")
        return self.place, float(self.place[0]), False, self.time == 20, {}


Env = MyEnv
'''

HIGHWAY = '''
import gymnasium
import my_module


class Highway(my_module.MyEnv):
    """Takes its settings as highway-env does."""

    def __init__(self, config=None):
        assert config is None or config["vehicles_count"]


gymnasium.register("highway-fast-v0", Highway)
'''


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, repo_root):
    """A folder with what the documents name: runs, a module with an environment, a config of one's own."""
    folder = tmp_path_factory.mktemp("docs")
    assert dreamworld.train(cli.parse([*TINY, "--logdir", str(folder / "runs" / "demo")])) == 0
    for name in ("DIR", "DIR1", "DIR2", "old_run", *(f"runs/{name}" for name in RUNS)):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(folder / "runs" / "demo")
    (folder / "my_package").mkdir()
    for name in ("my_module.py", "my_package/my_module.py", "my_package/__init__.py"):
        (folder / name).write_text(MODULE)
    for block in documents.blocks("python"):
        if named := re.match(r"# (\w+\.py)\n", block.text):
            (folder / named[1]).write_text(block.text)
    make_data(folder)
    np.savez(
        folder / "upright.npz", vector=np.array([0, np.nan, 0, np.nan])
    )  # docs/planning.md writes it, too
    (folder / "mine.yaml").write_text("env: {engine: inprocess}\n")
    (folder / "my_train.py").write_text((repo_root / "tests" / "sweep" / "fake_train.py").read_text())
    (folder / "highway_env.py").write_text(HIGHWAY)
    (folder / "gymnax.py").write_text(
        f"import importlib.util\nspec = importlib.util.spec_from_file_location('walks', {str(repo_root)!r} + "
        "'/tests/envs/jax/test_gymnax.py')\nwalks = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(walks)\nmake = lambda name: (walks.Walk(), walks.Params())\n"
    )
    return folder


def make_data(folder):
    """The data sets that the documents read, in every format."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder / "minari"))
        patch.chdir(folder)
        few = ["--steps", "60", "--env.num", "2", "--run.progress", "False"]
        assert main(["collect", "--task", "gym_CartPole-v1", "--data", "data/cartpole", *few]) == 0
        for target, form in (("demo/cartpole-v0", "minari"), ("episodes", "npz"), ("cartpole.h5", "hdf5")):
            assert main(["data", "export", "data/cartpole", target, "--format", form]) == 0


@pytest.fixture(scope="module")
def repo_root():
    return documents.ROOT


@pytest.fixture
def inside(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    monkeypatch.syspath_prepend(workspace)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(workspace / "minari"))
    before = set(sys.modules)
    yield workspace
    for name in set(sys.modules) - before:
        if name.split(".")[0] in IN_WORKSPACE:
            del sys.modules[name]


PYTHON = documents.blocks("python")


@pytest.mark.parametrize("block", PYTHON, ids=[block.place for block in PYTHON])
def test_the_python_of_the_documents_runs(block, inside, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["python"])
    exec(compile(block.text, block.place, "exec"), {"__name__": "__main__"})


LINES = documents.dreamworld_commands()


@pytest.mark.parametrize("words", LINES, ids=[f"{place} {' '.join(w[:3])}" for w, place in LINES.items()])
def test_the_commands_of_the_documents_are_accepted(words, inside, capsys):
    run_command([PLACEHOLDERS.get(word, word) for word in words if word not in ("…", "...")])


def run_command(words):
    """Runs what ends soon; of trainings all up to the first step, of benchmarks, sweeps and judging the plan."""
    name, *rest = words or ["--help"]
    if name == "data" and len(rest) == 1:  # named, not used
        rest = [*rest, "--help"]
    if (
        not rest or name == "debug"
    ):  # named, not used; `debug` wants a run that failed, and has tests of its own
        rest = ["--help"]
    if name == "play" and "--help" not in rest:  # serves until Ctrl-C; tests/scripts/test_play.py does that
        rest = [*rest, "--help"]
    if rest[-1].startswith("--") and rest[-1] not in ("--json", "--help", "--supervise", "--append"):
        rest = [*rest[:-1], f"{rest[-1]}=1", "--help"]  # `eval --max_steps`: the option must exist
    if name in PLANNED and "--help" not in rest:
        return PLANNED[name](rest)
    if name == "status":
        rest = [word for word in rest if word != "--watch"]
    if name == "collect" and "--help" not in rest:
        rest += ["--steps", "60", "--env.num", "2", "--run.progress", "False"]
    if name == "eval":
        rest += ["--episodes", "1"] if "--episodes" not in rest else []
    try:
        code = main([name, *rest])
    except SystemExit as end:
        code = end.code
    assert not code or (name == "doctor"), words


def plan_training(rest):
    """Parses, builds the environment, and traces the agent's parameters."""
    from dreamworld.sessions import pieces

    config, _ = read(rest)
    agent = pieces.build_agent(config)
    assert jax.tree.leaves(jax.eval_shape(agent.init, jax.random.PRNGKey(0)).params)


def check_options(rest):
    with pytest.raises(SystemExit) as end:
        main(["benchmark", *rest, *["--help"] * bool(rest)])
    assert not end.value.code


def plan_sweep(rest):
    rest = [
        "debug" if word.startswith("configs/sweeps/") and not os.path.exists(word) else word for word in rest
    ]
    assert main(["sweep", *rest, "--dry_run"]) == 0


def plan_judging(rest):
    """Parses, and finds the runs and the data; tests/scripts/test_assess.py judges and studies."""
    if (kind := asked_study(rest)) in study_flags.TRAINING:
        cli.parse_with(rest, study_flags.flags_of(kind), prog="")
        return
    folders, options = cli.leading_words(rest)
    flags = cli.parse_flags(options, assess.Flags(), prog="", description="")
    assert folders and all(os.path.isdir(folder) for folder in (*folders, flags.data or "."))


PLANNED = {"train": plan_training, "benchmark": check_options, "sweep": plan_sweep, "assess": plan_judging}


def test_every_program_that_the_documents_call_is_known():
    called = {words[0] for _, words in documents.shell_lines()}
    assert called - ELSEWHERE == {"dreamworld"}
    files = {words[1] for _, words in documents.shell_lines() if words[0] == "python" and words[1] != "-m"}
    assert files and all((documents.ROOT / file).is_file() for file in files)
    assert {words[0] for words in LINES if words} - {"--help", "--version", "COMMAND"} <= set(COMMANDS)


def test_extras_and_make_targets_that_the_documents_name_exist(repo_root):
    extras = tomllib.loads((repo_root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    targets = set(re.findall(r"^([\w-]+):", (repo_root / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join(page.read_text() for page in documents.PAGES)
    named = {
        extra for group in re.findall(r"(?:dreamworld|\.)\[([\w,]+)\]", text) for extra in group.split(",")
    }
    assert named and named <= set(extras)
    made = set(re.findall(r"`make ([\w-]+)", text)) | {
        w[1] for _, w in documents.shell_lines() if w[0] == "make"
    }
    assert made and made <= targets


CONSOLE = documents.console_examples()


@pytest.mark.parametrize("example", CONSOLE, ids=[f"{place} {line}" for place, line, _ in CONSOLE])
def test_what_the_documents_show_is_what_is_printed(example, inside):
    _, command, shown = example
    assert command.startswith("dreamworld ")
    words = [sys.executable, "-m", *command.split()]
    path = os.pathsep.join([str(documents.ROOT), str(inside)])
    found = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert (found.stdout + found.stderr).strip() == textwrap.dedent(shown).strip()


# Blocks that nothing can execute, by their first words, and why not.
PICTURES = {
    "environment ──rows──▶ act": "a drawing of how data moves",
    "scripts/ benchmarks/ sweep/": "a drawing of what imports what",
    "config.yaml the resolved config": "the files of a run: tests/test_end_to_end.py",
    "losses that are not finite:": "what `debug` prints: tests/scripts/test_debug.py",
    "error: replay would not fit:": "depends on the memory of the machine: tests/replay/test_fit.py",
    "LOGDIR/METHOD/TASK/seedN/": "the files of a sweep: tests/sweep/test_driver.py",
}


def test_every_block_of_the_documents_is_executed_or_says_why_not():
    assert not documents.indented([*documents.PAGES, *documents.TUTORIALS]), (
        "code in spaces: put it in a fence"
    )
    fences = sum(
        len(re.findall(r"^\s*(?:```|~~~)", page.read_text("utf-8"), re.MULTILINE)) for page in documents.PAGES
    )
    executed = documents.blocks("python", "bash", "sh", "console", "yaml")
    executed += documents.blocks("{eval-rst}", "{toctree}")  # by `make docs`
    others = documents.blocks("")
    assert fences == 2 * (len(executed) + len(others)), (
        "a block is of a language, or indented, that is not read"
    )
    first = [" ".join(block.text.split()) for block in others]
    assert sorted(PICTURES) == sorted(key for text in first for key in PICTURES if text.startswith(key))
    assert len(first) == len(PICTURES), "a block without a language: name it, or say here why it is not run"


YAML = documents.blocks("yaml")


@pytest.mark.parametrize("block", YAML, ids=[block.place for block in YAML])
def test_the_yaml_of_the_documents_is_taken(block, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(block.text)
    if "tasks:" in block.text:
        assert main(["sweep", str(file), "--dry_run", "--logdir", str(tmp_path / "sweep")]) == 0
    else:
        assert cli.parse(["--configs", str(file)]) != cli.parse([])


def test_the_documents_were_read():
    """Guards the reader: a broken pattern would find nothing and test nothing."""
    assert len(PYTHON) >= 8 and len(LINES) >= 30 and len(CONSOLE) >= 3
    assert np.unique([place for _, place in LINES.items()]).size >= 20
