"""Runs and sweeps that somebody crafted: `status` and `report` name the file, leave the row out and show the others."""

import json
import os
import time
from pathlib import Path

import pytest
import yaml

from dreamworld import __main__ as main
from dreamworld import cli
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir

DEEP = "[" * 50_000 + "]" * 50_000
SCRIPT = "\x1b[2J\x1b]0;owned\x07"


def make_run(path, seed, **status):
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump({"task": "dmc_walker_walk", "seed": seed}))
    rows = [{"step": 500 * i, "frames": 1000 * i, "time": 1e9 + i, "return": 5.0 * i} for i in range(1, 5)]
    (path / "episodes.jsonl").write_text("".join(json.dumps(row | {"env": 0}) + "\n" for row in rows))
    (path / "metrics.jsonl").write_text("".join(json.dumps(row | {"updates": 1}) + "\n" for row in rows))
    state = {"state": "finished", "task": "dmc_walker_walk", "seed": seed, "step": 2000, "steps": 2000}
    (path / "status.json").write_text(json.dumps(state | {"updated": time.time(), "host": "here"} | status))


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for seed in range(3):
        make_run(tmp_path / "sweep" / f"seed{seed}", seed)
    return tmp_path / "sweep"


def call(capsys, *argv):
    """Exit code and everything printed, which holds no control character but line breaks."""
    begin = time.perf_counter()
    code = main.main([str(word) for word in argv])
    printed = "".join(capsys.readouterr())
    assert printed.replace("\n", "").isprintable(), ascii(printed)
    assert time.perf_counter() - begin < 60
    return code, printed


def put(path, content):
    """Something else in place of a file."""
    path.unlink(missing_ok=True)
    if content == "FIFO":
        os.mkfifo(path)
    elif content == "FOLDER":
        path.mkdir()
    elif content == "LINK OUT":
        outside = path.parents[2] / f"outside-{path.name}"
        outside.write_text("{}\n")
        path.symlink_to(outside)
    elif content == "LINK TO ITSELF":
        path.symlink_to(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def status(**fields):
    return json.dumps({"state": "running", "updated": 1.0} | fields)


STATUS = {
    "empty": "",
    "a list": "[]",
    "deep": DEEP,
    "not UTF-8": b'{"state": "\xff"}',
    "a FIFO": "FIFO",
    "a folder": "FOLDER",
    "a link out": "LINK OUT",
    "a link to itself": "LINK TO ITSELF",
    "half a character": '{"state": "\\ud800"}',
    "state as list": status(state=[1]),
    "step as text": status(step="many"),
    "step as list": status(step=[1]),
    "step of 10^200": status(step=10**200),
    "step beyond all runs": status(step=10**13),
    "steps beyond all runs": status(steps=2**63 - 1),
    "step below zero": status(step=-5),
    "updates beyond all runs": status(updates=2**63 - 1),
    "frames beyond all runs": status(frames=2**62),
    "steps as mapping": status(steps={}),
    "updated as text": status(updated="now"),
    "updated nan": '{"state": "running", "updated": NaN}',
    "updated too large": '{"state": "running", "updated": 1e999}',
    "400 digits": '{"state": "running", "step": 1' + "0" * 400 + "}",
    "pid as text": status(pid="1"),
    "pid below zero": status(pid=-1),
    "fps as list": status(fps=[]),
    "return as text": status(**{"return": "x"}),
    "eta as flag": status(eta_s=True),
    "host as number": status(host=3),
    "error as mapping": status(error={}),
}


@pytest.mark.parametrize("damage", STATUS)
def test_a_damaged_heartbeat_costs_its_row_only(root, capsys, damage):
    put(root / "seed1" / "status.json", STATUS[damage])
    code, printed = call(capsys, "status", root)
    assert code == 0 and printed.count("finished") >= 2 and "2 finished" in printed
    assert "unreadable" in printed and "seed1/status.json" in printed.replace("\n", "")
    code, printed = call(capsys, "status", root, "--json")
    assert [row["state"] for row in json.loads(printed)].count("finished") == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "[/red]"},
        {"state": "[red"},
        {"state": SCRIPT},
        {"state": "a\nb\u202e"},
        {"error": f"[/]{SCRIPT}\n\x9b2J", "state": "failed"},
        {"host": "[/red]\\", "state": "running"},
        {"pid": 2**62, "host": os.uname().nodename, "state": "running"},
        {"step": 5, "steps": 0, "fps": -1, "eta_s": -3.0, "return": 1e300, "state": "running"},
        {"step": 10**13 - 1, "steps": 1, "fps": 1e300, "eta_s": 1e300, "updated": -1e300, "state": "running"},
    ],
    ids=lambda fields: ascii(fields)[:40],
)
def test_what_a_heartbeat_says_is_only_shown(root, capsys, fields):
    make_run(root / "odd", 9, **fields)
    code, printed = call(capsys, "status", root)
    assert code == 0 and "odd" in printed and "3 finished" in printed
    if "[/red]" in str(fields):
        assert "[/red]" in printed


CONFIG = {
    "empty": "",
    "a list": "[1]",
    "aliases": "a: &a [1, 1]\nb: &b [*a, *a]\n",
    "code": "a: !!python/object/apply:os.system ['touch owned']\n",
    "deep": "a: " + "[" * 1000,
    "not UTF-8": b"task: \xff",
    "a link out": "LINK OUT",
    "seed as text": "task: x\nseed: many\n",
    "seed as list": "task: x\nseed: [1]\n",
    "seed below zero": "task: x\nseed: -1\n",
    "seed of 400 digits": "task: x\nseed: 1" + "0" * 400 + "\n",
    "task as list": "task: [1]\nseed: 1\n",
    "date as seed": "task: x\nseed: 2001-01-01\n",
    "megabytes": "# " + "x" * (2 << 20),
}


@pytest.mark.parametrize("damage", CONFIG)
def test_a_damaged_config_costs_its_run_only(root, capsys, damage, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    put(root / "seed1" / "config.yaml", CONFIG[damage])
    if damage == "empty":  # then the heartbeat says task and seed
        return
    code, printed = call(capsys, "report", root, "--resamples", "100")
    assert code == 0 and "seed1/config.yaml" in printed.replace("\n", "").replace(" ", "")
    page = (root / "statistics" / "report.html").read_text()
    assert "2 runs" in page and "config.yaml" in page and not (tmp_path / "owned").exists()
    assert call(capsys, "status", root)[0] == 0


def row(**fields):
    return json.dumps({"step": 10**6, "frames": 2 * 10**6, "time": 1e9, "return": 1.0, "updates": 1} | fields)


ROWS = {
    "text": "hello",
    "a list": "[1]",
    "deep": DEEP,
    "not UTF-8": b"\xff\xfe",
    "no step": '{"frames": 1, "return": 2}',
    "step as text": row(step="1"),
    "step as flag": row(step=True),
    "step nan": '{"step": NaN, "frames": 5, "return": 1}',
    "step infinite": '{"step": 1e999, "frames": 5, "return": 1}',
    "step of 10^200": row(step=10**200),
    "step below zero": row(step=-5),
    "step beyond all runs": row(step=10**13),
    "frames as text": row(frames="1"),
    "frames as list": row(frames=[1]),
    "frames of 10^200": row(frames=10**200),
    "frames that go back": row(frames=-5),
    "no frames": row(frames=None),
    "return as text": row(**{"return": "1"}),
    "return too large": row(**{"return": 1e308}),
    "return as mapping": row(**{"return": {}}),
    "time as text": row(time="now"),
    "time of 10^200": row(time=10**200),
    "updates as list": row(updates=[]),
    "env as list": row(env=[1]),
    "achievement as text": row(**{"log/achievement_x": "yes"}),
    "achievement with an escape": row(**{f"log/achievement_{SCRIPT}": 1}),
    "a line of 3 MB": '{"step": 1, "x": "' + "y" * (3 << 20) + '"}',
}


def test_damaged_rows_cost_themselves_only(root, capsys):
    for name in ("episodes.jsonl", "metrics.jsonl"):
        with open(root / "seed1" / name, "ab") as file:
            for damage in ROWS.values():
                file.write((damage if isinstance(damage, bytes) else damage.encode()) + b"\n")
    code, printed = call(capsys, "report", root, "--resamples", "100")
    assert code == 0 and "unreadable log lines skipped" in " ".join(printed.split())


@pytest.mark.parametrize("damage", ROWS)
def test_no_row_is_a_traceback(root, damage):
    from dreamworld.stats.analysis import Options, analyse
    from dreamworld.stats.groups import collect

    path = root / "seed1" / "episodes.jsonl"
    put(
        path, path.read_bytes() + (ROWS[damage] if isinstance(ROWS[damage], bytes) else ROWS[damage].encode())
    )
    put(root / "seed1" / "metrics.jsonl", ROWS[damage])
    analysis = analyse(collect([str(root)]), Options(resamples=100))
    assert len(analysis.groups[0].runs) == 3


@pytest.mark.parametrize("content", ["FIFO", "FOLDER", "LINK OUT", "LINK TO ITSELF"])
@pytest.mark.parametrize("name", ["episodes.jsonl", "metrics.jsonl"])
def test_something_else_in_place_of_a_log_costs_its_run(root, capsys, name, content):
    put(root / "seed1" / name, content)
    from dreamworld.stats.groups import collect

    (group,) = collect([str(root)])
    assert len(group.runs) == 2 and name in group.bad[0]


def test_a_million_rows_of_one_step_are_read_at_once(root):
    from dreamworld.stats.scores import read_jsonl

    lines = [f'{{"step": 1, "env": {env}, "frames": 1, "return": 1}}' for env in range(200_000)]
    put(root / "seed1" / "episodes.jsonl", "\n".join(lines))
    begin = time.perf_counter()
    rows, unreadable = read_jsonl(root / "seed1" / "episodes.jsonl")
    assert len(rows) == 200_000 and unreadable == 0 and time.perf_counter() - begin < 20


RUN = {"name": "seed0", "task": "dmc_walker_walk", "seed": 0, "variant": "", "args": []}
PLANS = {
    "empty": "",
    "a list": "[]",
    "no runs": "{}",
    "runs as mapping": '{"runs": {}}',
    "runs of numbers": '{"runs": [1]}',
    "a run without name": json.dumps({"runs": [{key: RUN[key] for key in ("task", "seed", "variant")}]}),
    "name as list": json.dumps({"runs": [RUN | {"name": []}]}),
    "seed as text": json.dumps({"runs": [RUN | {"seed": "x"}]}),
    "variant as number": json.dumps({"runs": [RUN | {"variant": 3}]}),
    "deep": DEEP,
    "not UTF-8": b"\xff",
    "a FIFO": "FIFO",
    "a link out": "LINK OUT",
    "million runs": '{"runs": [%s]}' % ",".join([json.dumps(RUN)] * 100_001),  # noqa: UP031
}


@pytest.mark.parametrize("damage", PLANS)
def test_a_damaged_plan_hides_no_run(root, capsys, damage):
    put(root / "sweep.json", PLANS[damage])
    code, printed = call(capsys, "status", root)
    assert code == 0 and "3 finished" in printed and "sweep.json" in printed.replace("\n", "")
    from dreamworld.stats.groups import collect

    (group,) = collect([str(root)])
    assert len(group.runs) == 3 and "sweep.json" in group.bad[0]


@pytest.mark.parametrize(
    "line", ["hello", "[]", "{}", '{"run": 3}', DEEP, "FIFO", '{"run": "seed0", "event": []}']
)
def test_damaged_events_hide_no_run(root, capsys, line):
    put(root / "sweep.jsonl", line)
    code, printed = call(capsys, "status", root)
    assert code == 0 and "3 finished" in printed


def test_names_in_a_plan_are_only_shown(root, capsys):
    rows = [RUN, RUN | {"name": f"[/red]{SCRIPT}", "task": f"[/]{SCRIPT}", "variant": f"[bold]{SCRIPT}"}]
    put(root / "sweep.json", json.dumps({"runs": rows}))
    code, printed = call(capsys, "status", root)
    assert code == 0 and "[/red]\\x1b[2J" in printed
    assert call(capsys, "report", root, "--resamples", "100")[0] == 0


def test_a_task_with_markup_formulas_and_controls_is_only_text(root, capsys):
    odd = "=cmd|'/c calc'!A0 $\\frac$ [/red] <script>alert(1)</script>" + SCRIPT
    for name in ("seed0", "seed1", "seed2"):
        config = {"task": odd, "seed": int(name[-1])}
        (root / name / "config.yaml").write_text(yaml.safe_dump(config))
    assert call(capsys, "report", root, "--resamples", "100")[0] == 0
    for path in (root / "statistics").rglob("*.csv"):
        for line in path.read_text().splitlines():
            assert line.isprintable() and not any(cell.startswith("=") for cell in line.split(","))
    runs = (root / "statistics" / "runs.csv").read_text()
    assert "'=cmd" in runs and ",4000.0," in runs  # numbers stay numbers
    page = (root / "statistics" / "report.html").read_text()
    assert "<script>" not in page and "\x1b" not in page


@pytest.mark.parametrize(
    "name",
    [
        *("statistics", "statistics/plots", "statistics/report.md", "statistics/report.html"),
        *("statistics/runs.csv", "statistics/plots/curves.png"),
    ],
)
def test_a_report_writes_through_no_link(root, capsys, name, tmp_path):
    outside = tmp_path / "precious"
    if "." in name:
        (root / "statistics").mkdir()
        (root / "statistics" / "report.html").write_text("")
        outside.write_text("precious")
        (root / name).unlink(missing_ok=True)
    else:
        outside.mkdir()
        if name == "statistics/plots":
            (root / "statistics").mkdir()
            (root / "statistics" / "report.html").write_text("")
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).symlink_to(outside)
    call(capsys, "report", root, "--resamples", "100")
    assert outside.read_text() == "precious" if outside.is_file() else list(outside.iterdir()) == []


PARTS = [
    "config.yaml",
    "status.json",
    "metrics.jsonl",
    ".lock",
    "checkpoints",
    "replay",
    "eval",
    "failures",
    "report",
    "set_aside",
    "wandb",
    "replay_1",
]


@pytest.mark.parametrize("part", PARTS)
def test_a_run_whose_part_lies_elsewhere_is_neither_continued_nor_evaluated(tmp_path, part):
    config = cli.parse(["--configs", "debug", "--task", "jax_catch", "--logdir", str(tmp_path / "run")])
    rundir = RunDir.of(config)
    rundir.begin(config)
    outside = tmp_path / "outside"
    path = rundir.path / part
    if path.exists():
        path.rename(outside)
    elif "." in part:
        outside.write_text("precious")
    else:
        outside.mkdir()
    path.symlink_to(outside)
    before = outside.read_text() if outside.is_file() else ""
    for attempt in (lambda: rundir.begin(config), rundir.require):
        with pytest.raises(UserError, match="a link that leaves") as caught:
            attempt()
        assert part in str(caught.value) and "\n" not in str(caught.value)
    assert path.is_symlink() and (not before or outside.read_text() == before)


@pytest.mark.parametrize("part", ["", "eval.jsonl"])
def test_an_evaluation_on_another_environment_is_kept_through_no_link(tmp_path, part):
    from dreamworld.sessions import evaluation
    from dreamworld.sessions.stored import Played, Stored

    config = cli.parse(["--configs", "debug", "--task", "jax_catch", "--logdir", str(tmp_path / "run")])
    rundir = RunDir.of(config)
    path = rundir.eval / "jax_cartpole" / part
    path.parent.mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    path.symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="a link that leaves"):
        evaluation.home_of(Stored(rundir, config, None, True), Played(config, None, "jax_cartpole", False))


@pytest.mark.parametrize("name", [".sweep.lock", "sweep.jsonl", "sweep.json", "statistics", "slurm.json"])
def test_a_sweep_writes_through_no_link(tmp_path, name):
    from dreamworld.sweep.state import locked

    (tmp_path / "sweep").mkdir()
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "sweep" / name).symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="a link that leaves"), locked(tmp_path / "sweep"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize(
    "name", [".sweep.lock", "sweep.jsonl", "sweep.json", "statistics", "slurm", "slurm.json"]
)
def test_a_sweep_makes_nothing_where_a_link_to_nothing_leads(tmp_path, name):
    from dreamworld.sweep.state import locked

    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / name).symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="a link") as caught, locked(tmp_path / "sweep"):
        pass
    assert name in str(caught.value) and not os.path.lexists(tmp_path / "outside")


def test_the_log_of_a_run_is_written_through_no_link(tmp_path):
    from dreamworld.sweep.launch import process

    (tmp_path / "run").mkdir()
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "run" / "log.txt").symlink_to(tmp_path / "precious")
    with process.open_log(tmp_path / "run" / "log.txt") as log:
        log.write(b"x")
    assert (tmp_path / "precious").read_text() == "precious"


CONTROLS = ["\x1b[31m", "\n", "\r", "\t", "\0", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066", "\udcff"]


@pytest.mark.parametrize("character", CONTROLS, ids=ascii)
def test_control_characters_are_refused_at_every_door(tmp_path, character, capsys):
    from dreamworld.sweep import spec

    bad = f"a{character}b"
    base = ["--tasks", "dmc_walker_walk", "--seeds", "0"]
    doors = [
        *(lambda key=key: cli.parse([f"--{key}", bad]) for key in ("task", "logdir", "init_from", "seeds")),
        *(
            lambda key=key: cli.parse([f"--{key}", bad])
            for key in ("env.options", "logger.wandb", "run.compile_cache")
        ),
        lambda: cli.parse(["--agent.encoder.vector_keys", bad]),
        *(lambda key=key: spec.parse([*base, f"--{key}", bad]) for key in ("name", "logdir", "ray_address")),
        lambda: spec.parse(["--tasks", bad]),
        lambda: spec.parse([*base, "--slurm", f"partition={bad}"]),
        lambda: spec.parse([*base, "--grid", f"env.options=a=1,{bad}"]),
        lambda: spec.parse([*base, "--env.options", bad]),
        lambda: main._dispatch(["status", f"{tmp_path}/{bad}"]),
        lambda: main._dispatch(["report", f"{bad}={tmp_path}"]),
        lambda: main._dispatch(["eval", "--logdir", f"{tmp_path}/{bad}"]),
    ]
    for index, door in enumerate(doors):
        with pytest.raises(UserError) as caught:
            door()
        assert "control character" in str(caught.value), f"door {index}: {caught.value!r}"
        assert str(caught.value).isprintable(), f"door {index}"


def test_a_config_made_in_python_passes_the_same_door(tmp_path):
    import dataclasses

    config = cli.parse(["--task", "jax_catch", "--logdir", str(tmp_path)])
    for key, value in (("logdir", f"{tmp_path}/a\nrm -rf"), ("task", "jax_catch\x1b")):
        with pytest.raises(UserError, match="control character"):
            RunDir.of(dataclasses.replace(config, **{key: value}))


def test_a_newline_in_the_current_folder_reaches_no_script(tmp_path, monkeypatch):
    from dreamworld.sweep import spec

    folder = tmp_path / "a\ntouch owned"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match="control character"):
        spec.parse(["--tasks", "jax_catch", "--logdir", "sweep", "--launcher", "slurm", "--dry_run"])


def test_nothing_of_a_sweep_is_run_by_the_shell_of_its_script(tmp_path, monkeypatch):
    import subprocess

    from dreamworld.sweep import spec
    from dreamworld.sweep.launch import slurm
    from dreamworld.sweep.plan import expand

    monkeypatch.chdir(tmp_path)
    evil = "$(touch owned1)`touch owned2`;touch owned3 #'\"&touch owned4"
    tree = {"tasks": ["jax_catch"], "logdir": f"{tmp_path}/{evil}", "name": evil, "launcher": "slurm"}
    for key in ("partition", "comment"):
        refused = spec.make_spec({**tree, "slurm": [f"{key}={evil}"]})
        with pytest.raises(UserError, match=f"slurm: {key}: got "):
            slurm.scripts(refused, expand(refused), ("python", evil))
    made = spec.make_spec(tree)
    script = slurm.scripts(made, expand(made), ("python", evil))
    fake = tmp_path / "bin" / "srun"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nexit 0\n")
    fake.chmod(0o755)
    path = f"{fake.parent}:{os.environ['PATH']}"
    subprocess.run(["bash", "-c", script], cwd=tmp_path, env={**os.environ, "PATH": path}, check=False)
    assert not list(Path(tmp_path).rglob("owned?"))
