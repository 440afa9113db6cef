"""An agent of several stages trains, stops and goes on; several seeds of it, too."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

import dreamworld
from dreamworld import agents, cli, parallel, presets
from dreamworld.__main__ import main
from dreamworld.contract import Stage, Window
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.sessions import load, pieces, preflight
from dreamworld.training import rounds
from dreamworld.training.counters import Counters
from dreamworld.training.hosts import Team
from dreamworld.training.schedule import Schedule


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parent)


def config_for(logdir, *more):
    words = ["--agent", "staged:SPEC", "--task", "jax_catch", "--logdir", str(logdir), "--env.num", "2"]
    words += [
        "--run.steps",
        "1000",
        "--run.log_every",
        "20",
        "--run.save_every",
        "30",
        "--run.report_every",
        "0",
    ]
    words += ["--replay.min_starts", "4", "--replay.chunk", "16", "--run.progress", "False"]
    return cli.parse([*words, "--logger.tensorboard", "False", *more])


def counted(folder):
    """What the phases were given, and the step that the run ended at."""
    rundir = RunDir(folder)
    config = rundir.load_config(trusted=True)
    spaces = json.loads(rundir.spaces.read_text())
    assert spaces
    agent = pieces.build_agent(config)
    params = load.restore_params(rundir, agent)
    rows = [json.loads(line) for line in rundir.metrics.read_text().splitlines()]
    return np.asarray(params["world"]["rows"]["count"]).tolist(), rows[-1]["step"], rows


def test_every_stage_does_its_part(tmp_path):
    assert dreamworld.train(config_for(tmp_path / "run")) == 0
    (sweep, trained, tail), step, rows = counted(tmp_path / "run")
    # 40 random steps make two streams of 20 rows: five windows of 4 each, two in a batch.
    assert sweep == 5 * 2 * 4
    # One update at once and one for each 4 or 3 steps after it: 4 rows a step.
    short, whole = 1 + 38 * 4 // 16, 1 + 38 * 4 // 12
    assert trained == short * 16 and tail == whole * 12 + 3
    assert step == 40 + 5 + 40 + 3
    assert sum(row.get("encode/encode_rows", 0) > 0 for row in rows) >= 1


def test_a_run_that_is_stopped_in_a_stage_goes_on_in_it(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert dreamworld.train(config_for(whole)) == 0
    for steps in (42, 60, 86, 1000):
        config = config_for(parts)
        assert (
            dreamworld.train(dataclasses.replace(config, run=dataclasses.replace(config.run, steps=steps)))
            == 0
        )
    assert counted(parts)[:2] == counted(whole)[:2]
    episodes = lambda folder: [
        {key: value for key, value in json.loads(line).items() if key != "time"}
        for line in RunDir(folder).episodes.read_text().splitlines()
    ]
    assert episodes(parts) == episodes(whole)


def test_seeds_in_one_program_go_through_the_stages_together(tmp_path):
    assert dreamworld.train(config_for(tmp_path / "seeds", "--seeds", "0,5")) == 0
    assert dreamworld.train(config_for(tmp_path / "alone", "--seed", "5")) == 0
    one, two = counted(tmp_path / "seeds" / "seed5"), counted(tmp_path / "alone")
    assert one[:2] == two[:2]


FUSED = ["--run.mode", "fused", "--agent.plain", "True", "--env.num", "1"]


def test_the_fused_mode_goes_through_every_stage_stops_in_any_and_goes_on_to_the_same_end(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert dreamworld.train(config_for(whole, *FUSED)) == 0
    # One environment: 5 updates of 8 rows; then an update of 16 rows each 4 steps and one of 12 each 3; then 3 of none.
    (encoded, short, rest), step, rows = counted(whole)
    assert (encoded, short, rest) == (5 * 8, 48 // 4 * 16, 48 // 3 * 12 + 3)
    assert step == 40 + 5 + 48 + 3  # a stage of 40 steps ends with the round of 12 in which they are done
    assert {name for row in rows for name in row if name.endswith("_rows")} == {
        f"{phase}/{phase}_rows" for phase in ("encode", "short", "whole", "tail")
    }
    for steps in (20, 42, 60, 1000):
        config = config_for(parts, *FUSED)
        run = dataclasses.replace(config.run, steps=steps)
        assert dreamworld.train(dataclasses.replace(config, run=run)) == 0
    assert counted(parts)[:2] == ([encoded, short, rest], step)
    words = [*FUSED, "--seeds", "0:2"]
    assert dreamworld.train(config_for(tmp_path / "seeds", *words)) == 0
    for seed in (0, 1):
        assert counted(tmp_path / "seeds" / f"seed{seed}")[:2] == ([encoded, short, rest], step)


@pytest.mark.parametrize("mode", ["host", "fused"])
def test_nothing_is_learned_before_replay_holds_a_window(tmp_path, mode):
    """Five rows of each environment in the two stages that collect, and the longest window has six."""
    words = ["--run.mode", mode, "--agent.plain", "True", "--env.num", "12", "--agent.random_steps", "12"]
    assert dreamworld.train(config_for(tmp_path / "run", *words, "--agent.encodes", "False")) == 0
    assert counted(tmp_path / "run")[:2] == ([0, 0, 3], 12 + 48 + 3)
    with pytest.raises(UserError, match=r"stage 'encode', phase 'encode': .*; collect more rows before it"):
        dreamworld.train(config_for(tmp_path / "few", *words))


def test_the_fused_mode_says_which_phase_it_can_not_serve(tmp_path):
    with pytest.raises(UserError, match=r"phase 'encode' sweeps over replay, which --run.mode host can do"):
        dreamworld.train(config_for(tmp_path / "run", "--run.mode", "fused"))
    with pytest.raises(
        UserError, match=r"ratio 4 of phase 'short' is 1.75 updates per step of 7 environments"
    ):
        words = ["--run.mode", "fused", "--agent.plain", "True", "--env.num", "7"]
        dreamworld.train(config_for(tmp_path / "run", *words))
    assert not (tmp_path / "run").exists()


def test_its_options_are_its_own(tmp_path):
    assert config_for(tmp_path, "--agent.rate", "2").agent.rate == 2.0
    with pytest.raises(UserError, match=r"agent.rssm.deter: no such option of the agent staged:SPEC"):
        config_for(tmp_path, "--agent.rssm.deter", "8")
    with pytest.raises(UserError, match=r"preset size1m: agent.encoder: no such option of the agent staged"):
        config_for(tmp_path, "--configs", "size1m")
    config = config_for(tmp_path)
    presets.save_yaml(config, tmp_path / "config.yaml")
    assert presets.load_yaml(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../agents/mine.py:SPEC", "write it as mine:SPEC, and start in the folder"),
        ("dreamerv33", "no agent 'dreamerv33'; did you mean dreamerv3"),
        ("nothing:SPEC", "agent 'nothing:SPEC': no module named 'nothing'"),
        ("staged:NOTHING", "staged has no 'NOTHING'"),
        (":", "write module:SPEC"),
        ("staged:make", "is a function, no AgentSpec"),
        ("", "--agent: is empty"),
    ],
)
def test_an_unknown_agent_is_one_line(tmp_path, name, words):
    with pytest.raises(UserError, match=words):
        cli.parse(["--agent", name])


def test_the_agent_of_somebody_else_s_run_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    (run / "status.json").write_text("{}")
    (run / "config.yaml").write_text("agent: {name: 'evil:SPEC'}\n")
    for call in (
        lambda: presets.load_yaml(run / "config.yaml"),
        lambda: cli.parse(["--configs", str(run / "config.yaml")]),
        lambda: dreamworld.load(run),
    ):
        with pytest.raises(
            UserError, match=r"names the agent 'evil:SPEC', and nothing was imported.*--trust"
        ):
            call()
    with pytest.raises(UserError, match="it ran"):
        presets.load_yaml(run / "config.yaml", trusted=True)


def test_no_spelling_of_a_strangers_config_imports_code(tmp_path, monkeypatch, capsys):
    (tmp_path / "worse.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    (run / "status.json").write_text("{}")
    for text in (
        "agent.name: 'worse:SPEC'",
        "agent: {name: 'worse:SPEC'}",
        "{'agent.name': 'worse:SPEC', seed: 1}",
        "{agent: {precision: float32}, 'agent.name': 'worse:SPEC'}",
        "{agent: {name: dreamerv3}, 'agent.name': 'worse:SPEC'}",
    ):
        (run / "config.yaml").write_text(text + "\n")
        with pytest.raises(UserError, match="nothing was imported"):
            presets.load_yaml(run / "config.yaml")
        with pytest.raises(UserError, match="nothing was imported"):
            cli.parse(["--configs", str(run / "config.yaml")])
    for command in ("eval", "train"):
        assert main([command, str(run)]) == 2 and "nothing was imported" in capsys.readouterr().err
        assert main([command, str(run), "--trust", "True"]) == 2 and "it ran" in capsys.readouterr().err


def test_another_agent_does_not_take_over_a_run(tmp_path):
    assert dreamworld.train(config_for(tmp_path / "run", "--run.steps", "20")) == 0
    before = (tmp_path / "run" / "config.yaml").read_text()
    other = cli.parse(["--configs", "debug", "--task", "jax_catch", "--logdir", str(tmp_path / "run")])
    with pytest.raises(UserError, match=r"other settings: agent.name 'staged:SPEC' -> 'dreamerv3'"):
        dreamworld.train(other)
    assert (tmp_path / "run" / "config.yaml").read_text() == before


def test_a_nan_in_a_phase_that_reads_nothing_stops_with_its_name(tmp_path, capsys):
    """`rate` 0 makes the tail's loss 0 / 0."""
    assert dreamworld.train(config_for(tmp_path / "run", "--agent.rate", "0", "--run.progress", "True")) == 76
    text = capsys.readouterr().err
    assert "losses: total" in text and "no update is applied any more" in text and "Traceback" not in text


def test_what_is_over_owes_nothing_when_a_run_goes_on(tmp_path, capsys):
    assert dreamworld.train(config_for(tmp_path / "run", "--run.steps", "86", "--run.progress", "True")) == 0
    assert dreamworld.train(config_for(tmp_path / "run", "--run.progress", "True")) == 0
    assert "owed" not in capsys.readouterr().err


def test_phases_have_names_of_their_own_and_batches_that_devices_can_divide(tmp_path):
    config = config_for(tmp_path / "run")
    agent = pieces.build_agent(config)
    layout = parallel.make_layout(config.parallel, batch_size=16)
    preflight.check_phases(agent, layout)
    twice = agent._replace(stages=agent.stages[:3] + agent.stages[2:3])
    with pytest.raises(UserError, match="two phases of this agent are called 'short'"):
        preflight.check_phases(twice, layout)
    with pytest.raises(UserError, match="2 can't be divided by 3 processes"):
        preflight.check_team(agent, Team(count=3, index=0))


def test_phases_without_an_end_take_turns_on_the_host_only(tmp_path):
    agent = pieces.build_agent(config_for(tmp_path / "run", "--agent.plain", "True"))
    short, whole = agent.stages[2].phases
    endless = agent._replace(stages=(Stage("ever", (short, whole), collect="none"),))
    with pytest.raises(
        UserError, match=r"stage 'ever' collects nothing, and its phases short, whole take turns"
    ):
        rounds.check(endless, 1)
    aside = dataclasses.replace(short, window=Window(4, 4, order="aside"))
    schedule = Schedule((Stage("train", (aside, whole)),), Counters(), lambda _: 0)
    assert [name for name, _ in rounds.plan(schedule, 1, 64)[0].updates] == ["whole", "short"]


@pytest.mark.parametrize("values", [{"batch": 0}, {"length": 0}, {"order": "sweep", "align": "episode"}])
def test_a_window_that_can_not_be_is_refused(values):
    with pytest.raises(ValueError):
        Window(**{"batch": 1, "length": 1, **values})


def test_a_preset_of_one_agent_over_another_is_one_line(tmp_path):
    (tmp_path / "mine.yaml").write_text("agent: {name: 'staged:SPEC', rate: 3}\n")
    assert cli.parse(["--configs", str(tmp_path / "mine.yaml")]).agent.rate == 3.0
    with pytest.raises(
        UserError, match=r"mine.yaml is for the agent staged:SPEC, dreamerv3 is chosen by --agent"
    ):
        cli.parse(["--configs", str(tmp_path / "mine.yaml"), "--agent", "dreamerv3"])


def test_agents_are_listed(capsys):
    assert main(["agents"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in agents.names()) and "arXiv:2301.04104" in text
    assert main(["agents", "--json"]) == 0
    rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    row = rows["dreamerv3"]
    assert set(rows) == set(agents.names()) and row["can"] == ["decode", "plan", "play", "edit"]
