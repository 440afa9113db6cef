"""The folder of a run as the first word of a command."""

import dataclasses
import shlex
import shutil

import pytest

import dreamworld
from dreamworld import cli, presets
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.runenv import RunEnv
from dreamworld.scripts import debug, report, status, train
from dreamworld.scripts import eval as eval_script
from dreamworld.sessions import ending, folders
from dreamworld.training import snapshot
from dreamworld.training.group import seed_configs
from dreamworld.types import Space

DEBUG = ["--configs", "debug"]
OBS = {"vector": Space((4,), "float32")}
ACT = {"action": Space((), "int32", classes=2)}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home and a working folder of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def store(folder, *words, group=(), step=100, state="preempted"):
    """The run directory of a training that was stopped, without its arrays."""
    config = cli.parse([*DEBUG, *words, "--logdir", str(folder)])
    rundir = RunDir.of(config)
    rundir.begin(config)
    rundir.remember(RunEnv(config.task, False, str(folder), OBS, ACT))
    rundir.write_status(state, step=step, steps=int(config.run.steps))
    at = snapshot.epath.Path(rundir.checkpoints / str(step))
    at.mkdir(parents=True)
    meta = {"0": {"group": list(group)} if group else {}}
    snapshot.commit(at, {"step": step, "processes": 1, "score": None, "tensors": {}, "meta": meta})
    return rundir


def line_of(call):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_train_with_a_folder_takes_the_config_of_its_run(tmp_path):
    rundir = store(tmp_path / "a run", "--seed", "3", "--run.train_ratio", "16")
    config, flags = train.read(["a run"])
    assert config == dataclasses.replace(rundir.load_config(), logdir=str(rundir))
    assert not flags.supervise


def test_options_after_the_folder_change_the_run(tmp_path):
    store(tmp_path / "run")
    config, flags = train.read(["run", "--run.steps", "1e4", "--supervise"])
    assert config.run.steps == 1e4 and config.task == "gym_CartPole-v1" and flags.supervise


def test_a_run_that_was_moved_goes_on_where_it_is(tmp_path):
    store(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    assert train.read(["new"])[0].logdir == str(tmp_path / "new")


def test_the_same_folder_may_be_given_twice(tmp_path):
    rundir = store(tmp_path / "run")
    assert train.read(["run", "--logdir", str(rundir)])[0].logdir == str(rundir)
    assert eval_script.read(["run", "--logdir", "run/"]).logdir == "run"


@pytest.mark.parametrize("read", [train.read, eval_script.read])
def test_two_different_folders_are_refused(read, tmp_path):
    store(tmp_path / "run")
    assert "run and --logdir other are two folders; give one" in line_of(
        lambda: read(["run", "--logdir", "other"])
    )
    assert "one folder" in line_of(lambda: read(["run", "other"]))


@pytest.mark.parametrize("main", [train.main, eval_script.main, status.main, report.main])
def test_an_empty_folder_is_one_line(main, tmp_path):
    """As of a shell variable that is not set."""
    assert "is empty; expects the path of a folder" in line_of(lambda: main([""]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", [None, 3, b"run", ""], ids=repr)
def test_what_is_no_folder_in_python_is_one_line(place):
    for call in (dreamworld.load, dreamworld.evaluate):
        assert "the path of a folder" in line_of(lambda call=call: call(place))


def test_eval_needs_a_folder(capsys):
    assert "dreamworld eval DIR" in line_of(lambda: eval_script.read([]))
    assert eval_script.read(["DIR", "--episodes", "2"]) == eval_script.read(
        ["--logdir", "DIR", "--episodes", "2"]
    )


@pytest.mark.parametrize("main", [train.main, eval_script.main, debug.main], ids=lambda main: main.__module__)
def test_a_folder_without_a_run_is_one_line(main, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty: no run here (there is no config.yaml)" in line_of(lambda: main(["empty"]))
    assert "nowhere: there is no such folder" in line_of(lambda: main(["nowhere"]))
    assert not (tmp_path / "nowhere").exists() and not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize("main", [train.main, eval_script.main, debug.main], ids=lambda main: main.__module__)
def test_a_folder_of_runs_names_them(main, tmp_path):
    for seed in range(7):
        store(tmp_path / f"many/walker/seed{seed}")
    line = line_of(lambda: main(["many"]))
    assert "no run here" in line and "walker/seed0" in line and "7 runs below it" in line


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("debug", "--configs debug"),
        ("mine.yaml", "--configs mine.yaml"),
        ("gym_CartPole-v1", "--task gym_CartPole-v1"),
        ("run/config.yaml", "dreamworld train run"),
    ],
)
def test_what_is_no_folder_gets_the_right_option(word, hint, tmp_path):
    store(tmp_path / "run")
    (tmp_path / "mine.yaml").write_text("seed: 3\n")
    assert hint in line_of(lambda: train.read([word]))


def test_a_value_after_an_option_that_is_a_folder_says_where_folders_go(tmp_path):
    store(tmp_path / "run")
    assert "a folder goes first" in line_of(lambda: eval_script.read(["--episodes", "3", "run"]))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("./run", "--configs ./run/config.yaml"),
        ("run", "--configs run/config.yaml"),
        ("empty", "is a folder"),
        ("mine", "--configs mine.yaml"),
        ("options.txt", "whose name does not end with .yaml"),
    ],
)
def test_configs_says_what_file_is_meant(name, hint, tmp_path):
    store(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine.yaml").write_text("seed: 3\n")
    (tmp_path / "options.txt").write_text("seed: 3\n")
    line = line_of(lambda: cli.parse(["--configs", name]))
    assert hint in line
    assert ("dreamworld train" in line) == name.endswith("run")


def test_a_run_with_other_settings_says_how_to_go_on_as_it_is(tmp_path):
    rundir = store(tmp_path / "a run")
    line = line_of(lambda: train.main([*DEBUG, "--agent.rssm.deter", "64", "--logdir", str(rundir)]))
    assert "agent.rssm.deter 32 -> 64" in line and f"dreamworld train {shlex.quote(str(rundir))}" in line


def test_somebody_elses_run_is_not_continued_as_it_says(tmp_path):
    rundir = store(tmp_path / "run")
    (rundir.path / "config.sig").unlink()
    assert "not signed as yours" in line_of(lambda: train.read(["run"]))
    assert train.read(["run", "--trust"])[0].logdir == str(rundir)


def test_seeds_that_were_trained_together_go_on_together(tmp_path):
    for seed in (0, 3):
        store(tmp_path / f"both/seed{seed}", "--seed", str(seed), group=(0, 3))
    config, _ = train.read(["both", "--run.steps", "900"])
    assert (config.seeds, config.logdir, config.run.steps) == ("0,3", str(tmp_path / "both"), 900)
    alone, _ = train.read(["both/seed3"])
    assert (alone.seeds, alone.seed) == ("", 3)


def test_seeds_that_were_trained_alone_do_not(tmp_path):
    for seed in (0, 3):
        store(tmp_path / f"both/seed{seed}", "--seed", str(seed))
    assert "seed0" in line_of(lambda: train.read(["both"]))


@pytest.mark.parametrize("lost", [0, 3])
def test_seeds_are_known_although_one_has_lost_its_checkpoints(tmp_path, lost):
    runs = {seed: store(tmp_path / f"both/seed{seed}", "--seed", str(seed), group=(0, 3)) for seed in (0, 3)}
    shutil.rmtree(runs[lost].checkpoints)
    assert train.read(["both"])[0].seeds == "0,3"
    (runs[lost].checkpoints / "100").mkdir(parents=True)
    (runs[lost].checkpoints / "100/snapshot.json").write_text("{")
    assert train.read(["both"])[0].seeds == "0,3"


def test_a_damaged_newest_checkpoint_leaves_the_seeds_together(tmp_path):
    for seed in (0, 3):
        store(tmp_path / f"both/seed{seed}", "--seed", str(seed), group=(0, 3))
    (tmp_path / "both/seed0/checkpoints/200").mkdir()
    (tmp_path / "both/seed0/checkpoints/200/snapshot.json").write_text("{")
    assert train.read(["both"])[0].seeds == "0,3"


def test_seeds_of_which_one_is_missing_are_named(tmp_path):
    for seed in (0, 3):
        store(tmp_path / f"both/seed{seed}", "--seed", str(seed), group=(0, 3))
    shutil.rmtree(tmp_path / "both/seed3")
    line = line_of(lambda: train.read(["both"]))
    assert "seeds 0,3 were trained together" in line and "seed3 is missing" in line
    assert "dreamworld train both/seed0" in line


def test_a_seed_that_names_others_only_makes_no_group(tmp_path):
    store(tmp_path / "both/seed7", "--seed", "7", group=(0, 3))
    assert "1 run below it" in line_of(lambda: train.read(["both"]))


@pytest.mark.parametrize("words", [[], ["--seeds", "0,3"]])
def test_a_finished_run_says_so_and_changes_nothing(words, tmp_path, capsys):
    group = (0, 3) if words else ()
    for seed in (0, 3) if words else (0,):
        store(tmp_path / f"a b/seed{seed}", "--seed", str(seed), group=group, step=600, state="finished")
    before = contents(tmp_path)
    assert train.main(["a b" if words else "a b/seed0"]) == 0
    said = capsys.readouterr().out
    assert "finished already: all 600 steps are done" in said and "--run.steps 1200" in said
    for line in said.splitlines():
        _, found, command = line.partition("dreamworld train ")
        if found:
            assert train.read(shlex.split(command))[0].run.steps == 1200
    assert contents(tmp_path) == before


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_is_still_checked(tmp_path):
    rundir = store(tmp_path / "run", step=600, state="finished")
    assert "--resume never" in line_of(lambda: train.main(["run", "--resume", "never"]))
    assert "seed 0 -> 1" in line_of(lambda: train.main(["run", "--seed", "1"]))
    assert folders.finished([rundir], [rundir.load_config()])


def test_a_run_is_not_finished_with_more_steps_or_a_damaged_snapshot(tmp_path):
    rundir = store(tmp_path / "run", step=600, state="finished")
    config = rundir.load_config()
    assert folders.finished([rundir], [config])
    assert not folders.finished([rundir], [presets.replace(config, {"run.steps": 601.0})])
    rundir.write_status("running", step=600)
    assert not folders.finished([rundir], [config])
    rundir.write_status("finished", step=600)
    (rundir.checkpoints / "600" / "more").write_text("what no save wrote")
    assert not folders.finished([rundir], [config])


@pytest.mark.parametrize("update", ["-5", "1e30", "9" * 500, "-1e30", "7"])
def test_a_failure_that_is_not_there_names_those_that_are(update, tmp_path):
    store(tmp_path / "run")
    for name in ("12", "40"):
        (tmp_path / "run/failures" / name).mkdir(parents=True)
    line = line_of(lambda: debug.main(["run", "--update", update]))
    assert line.startswith("--update") and "12, 40" in line and len(line) < 300


def test_seeds_in_folders_of_other_names_go_on_by_the_command_that_is_printed(tmp_path):
    logdir = tmp_path / "try 10/walker-{seed}/run10"
    runs = [store(str(logdir), "--seed", str(seed), group=(0, 3)) for seed in (0, 3)]
    command = ending.continue_command(runs, [run.load_config() for run in runs])
    config, _ = train.read(shlex.split(command)[2:])
    assert (config.seeds, config.logdir) == ("0,3", str(logdir))
    assert [RunDir.of(each).path for each in seed_configs(config)] == [run.path for run in runs]
