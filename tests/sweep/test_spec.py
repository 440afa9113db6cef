"""Sweep files and command lines, and what is wrong with them."""

import pytest

from dreamworld.errors import UserError
from dreamworld.scripts.sweep import main
from dreamworld.sweep import spec
from dreamworld.sweep.plan import expand


def parse(line):
    """A sweep from a command line written as one text."""
    return spec.parse(line.split())


def test_file_and_flags_make_the_same_sweep(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "tasks: [gym_A, gym_B]\nseeds: 1:5\nconfigs: [debug]\ngrid: {run.train_ratio: [64, 2.56e2]}\n"
        "options: {run: {steps: 1e4}, env.num: 3}\nlogdir: /tmp/x\nworkers: 3\n"
        "slurm: {partition: gpu, time: 1-00}\n"
    )
    read = spec.parse([str(file)])
    line = "--name mine --tasks gym_A gym_B --seeds 1:5 --configs debug --grid run.train_ratio=64,2.56e2"
    line += " --logdir /tmp/x --run.steps 1e4 --env.num=3 --workers 3 --slurm partition=gpu time=1-00"
    assert parse(line) == read
    assert read.seed_list == (1, 2, 3, 4)  # YAML 1.1 reads a bare 1:5 as 65
    assert read.axes == {"run.train_ratio": ("64", "2.56e2")} and read.workers == 3


def test_flags_go_over_the_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("tasks: [gym_A]\nseeds: 0:5\nlogdir: /tmp/{name}\noptions: {run.steps: 1e4}\n")
    read = spec.parse([str(file), "--seeds", "0,1", "--run.steps", "7", "--dry-run"])
    assert read.seed_list == (0, 1) and read.options == {"run.steps": "7"} and read.dry_run
    assert str(read.folder) == "/tmp/mine"


def test_two_grids_on_the_command_line_multiply():
    read = parse("--tasks gym_A --grid run.train_ratio=1,2 --grid agent.optim.lr=1e-3,1e-4 env.num=2")
    assert read.axes["agent.optim.lr"] == ("1e-3", "1e-4") and len(read.axes) == 3


@pytest.mark.parametrize(
    "line",
    [
        "--tasks gym_A,gym_B --seeds 0,2 --configs debug,size1m --grid env.size=[8,8],[16,16]",
        "--tasks gym_A, gym_B --seeds 0, 2 --configs debug, size1m --grid env.size=[8,8], [16,16]",
        "--tasks [gym_A, gym_B] --seeds 0 2 --configs debug size1m --grid env.size=[8,8] [16,16]",
        "--tasks=gym_A,gym_B --seeds=0,2 --configs=debug,size1m --grid=env.size=[8,8],[16,16]",
    ],
)
def test_lists_are_split_at_commas_however_they_are_spaced(line):
    read = parse(line)
    assert read.tasks == ("gym_A", "gym_B") and read.seed_list == (0, 2)
    assert read.configs == ("debug", "size1m") and len(expand(read)) == 8
    assert [job.config.env.size for job in expand(read)[:2]] == [(8, 8), (16, 16)]


def test_commas_within_values_of_slurm_stay():
    read = parse("--tasks gym_A --slurm partition=gpu,nodelist=a,b time=1-00")
    assert read.slurm == ("partition=gpu", "nodelist=a,b", "time=1-00")


def test_options_with_commas_of_their_own_stay_whole():
    read = parse("--tasks gym_A --env.options=size=3,map=[1,2] --seeds 0")
    assert read.options == {"env.options": "size=3,map=[1,2]"}


def test_lists_are_values_in_a_file_grid(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("tasks: [gym_A]\nlogdir: /tmp/x\ngrid: {env.size: [[64, 64], [96, 96]]}\n")
    jobs = expand(spec.parse([str(file)]))
    assert [job.config.env.size for job in jobs] == [(64, 64), (96, 96)]
    assert [job.variant for job in jobs] == ["size=64,64", "size=96,96"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: [a]", r"no such key 'task'; did you mean tasks\?"),
        ("tasks: [a]\nworker: 3", r"no such key 'worker'; did you mean workers\?"),
        ("seeds: 0:3", "tasks: none given"),
        ("tasks: [a, a]", "task a is given twice"),
        ("tasks: [a]\nseeds: [0, 1, 0]", "seed 0 is given twice"),
        ("tasks: [a]\nworkers: many", "workers: got 'many', expects a whole number"),
        ("tasks: [a]\nworkers: -1", "workers: got -1, expects at least 0"),
        ("tasks: [a]\nfps: 1e99", "fps: got 1e\\+99, expects at most"),
        ("tasks: [a]\nseeds: 0:40000", "40,000 seeds are too many"),
        ("tasks: [a]\nlauncher: condor", "expects one of local, ray, slurm"),
        ("tasks: [a]\ngrid: {agent.lr: [1]}", r"agent\.lr: no such option .* did you mean agent\.optim\.lr"),
        ("tasks: [a]\ngrid: {agent.optim.lr: [x]}", r"grid agent\.optim\.lr: got 'x', expects a number"),
        ("tasks: [a]\ngrid: {agent.optim.lr: [1e-3, 0.001]}", "0.001 is given twice"),
        ("tasks: [a]\ngrid: {run.steps: [1]}\noptions: {run.steps: 2}", "both an option and in the grid"),
        ("tasks: [a]\noptions: {seed: 3}", "seed belongs to the sweep; use seeds"),
        ("tasks: [a]\noptions: 3", "expects options such as"),
        ("tasks: [a]\ngpus: 1.5", "gpus: got 1.5"),
        ("tasks: [a]\nslurm: [gpu]", "expects KEY=VALUE"),
        ("tasks: [a]\nlogdir: ''", "logdir: is empty; expects the path of a folder"),
        ("tasks: [a]\nname: ' '", "name: is empty; expects the name of the sweep"),
        (
            "tasks: [a]\nlogdir: x/{seed}",
            r"x/\{seed\}: \{seed\} is filled in for single runs; give the folder of",
        ),
        ("tasks: [a]\nname: '{task}'", r"dreamworld/\{task\}: \{task\} is filled in for single runs"),
        ("tasks: [a", "not valid YAML"),
        ("- a", "expects keys"),
    ],
)
def test_bad_files_are_one_line(tmp_path, text, message):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        expand(spec.parse([str(file)]))


def test_unknown_file_names_those_that_exist():
    with pytest.raises(UserError, match=r"no such sweep file; with the package come: .*debug"):
        spec.parse(["nowhere.yaml"])


@pytest.mark.parametrize("name", spec.sweep_names())
def test_every_sweep_file_of_the_package_expands(name):
    for argument in (name, f"configs/sweeps/{name}.yaml"):
        jobs = expand(spec.parse([argument]))
        assert jobs and len({job.logdir for job in jobs}) == len(jobs)


def test_runs_carry_their_command_line_and_config():
    line = "--tasks dmc_walker_walk --seeds 3 --configs dmc_proprio size1m --grid agent.optim.lr=1e-4"
    read = parse(f"{line} --logdir /tmp/x")
    (job,) = expand(read)
    assert job.name == "lr=0.0001/dmc_walker_walk/seed3" and job.variant == "lr=0.0001"
    line = " ".join(job.args)
    assert line.startswith(
        "--configs dmc_proprio size1m --task dmc_walker_walk --seed 3 --logdir /tmp/x/lr=0.0001/"
    )
    assert "--agent.optim.lr=0.0001" in line
    assert job.config.agent.optim.lr == 1e-4 and job.config.seed == 3 and job.config.agent.rssm.deter == 512


def test_command_line_of_a_run_parses_to_its_config():
    from dreamworld import cli

    line = "--tasks gym_A --configs debug --grid env.size=32 --run.report_every 0 --logger.tensorboard False"
    (job,) = expand(parse(line.replace("--grid env.size=32", "--env.size 32 32")))
    parsed = cli.parse(list(job.args))
    assert parsed.env.size == job.config.env.size and not parsed.logger.tensorboard
    assert parsed.run.steps == job.config.run.steps and parsed.logdir == str(job.logdir)


def test_numbers_of_many_digits_reach_a_run_as_they_are():
    from dreamworld import cli

    (job,) = expand(
        parse("--tasks gym_A --configs debug --agent.optim.lr 1.2345678901234567e-4 --run.steps 3e4")
    )
    parsed = cli.parse(list(job.args))
    assert parsed.agent.optim.lr == job.config.agent.optim.lr == 1.2345678901234567e-4
    assert parsed.run.steps == job.config.run.steps


@pytest.mark.parametrize("dry", ["--dry_run", "--retries=0"])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--tasks gym_CartPole-v1,gym_CartPol-v1,nonsense", "tasks: gym_CartPol-v1: .* nonsense"),
        ("--tasks gym_CartPole-v1 --env.options gravty=3", "tasks: gym_CartPole-v1 takes no option 'gravty'"),
        ("--tasks jax_catch --grid env.options=rows=9,rws=3", "tasks: jax_catch has no option 'rws'"),
    ],
)
def test_tasks_that_can_not_be_trained_on_are_refused_before_anything_starts(tmp_path, line, message, dry):
    words = [*line.split(), "--configs", "debug", "--logdir", str(tmp_path / "new"), dry]
    with pytest.raises(UserError, match=message):
        main(words)
    assert not (tmp_path / "new").exists()
