"""What a launcher promises, where it can be seen without its cluster."""

import os
import pickle
import shlex
import signal
import subprocess
import sys
import time

import pytest

from dreamworld.errors import UserError
from dreamworld.sweep import driver
from dreamworld.sweep.launch import local, make_launcher, process, sbatch, slurm
from dreamworld.sweep.plan import expand
from dreamworld.sweep.spec import make_spec

CORES = list(range(8))


def spec_of(tmp_path, **tree):
    return make_spec({"tasks": ["gym_A", "gym_B"], "seeds": "0:2", "logdir": str(tmp_path / "s"), **tree})


@pytest.mark.parametrize(
    ("tree", "gpus", "expected"),
    [
        ({}, [], [((0, 1), None), ((2, 3), None), ((4, 5), None), ((6, 7), None)]),
        ({"cores": "4"}, [], [((0, 1, 2, 3), None), ((4, 5, 6, 7), None)]),
        ({"workers": "1", "cores": "1"}, [], [((0,), None)]),
        ({}, ["0", "1"], [((0, 1, 2, 3), ("0",)), ((4, 5, 6, 7), ("1",))]),
        ({"gpus": "0.5"}, ["3"], [((0, 1, 2, 3), ("3",)), ((4, 5, 6, 7), ("3",))]),
        ({"gpus": "2", "cores": "1"}, ["0", "1", "2", "3"], [((0,), ("0", "1")), ((1,), ("2", "3"))]),
        ({"gpus": "0", "cores": "4"}, ["0"], [((0, 1, 2, 3), ()), ((4, 5, 6, 7), ())]),
    ],
)
def test_machine_is_divided_among_runs(tmp_path, tree, gpus, expected):
    slots = local.make_slots(spec_of(tmp_path, **tree), gpus, CORES)
    assert [(slot.cores, slot.gpus) for slot in slots] == expected


def test_slots_bind_by_environment(tmp_path, monkeypatch):
    for name in local.MEMORY:
        monkeypatch.delenv(name, raising=False)
    shared = local.make_slots(spec_of(tmp_path, gpus="0.5"), ["3"], CORES)[0].env
    assert shared["CUDA_VISIBLE_DEVICES"] == "3" and shared["XLA_CLIENT_MEM_FRACTION"] == "0.450"
    assert shared["OMP_NUM_THREADS"] == "4"
    assert local.make_slots(spec_of(tmp_path, gpus="0"), ["0"], CORES)[0].env["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize("name", ["XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"])
def test_a_share_of_memory_that_the_user_has_set_holds(tmp_path, monkeypatch, name):
    """JAX refuses both names at once: a run would end in the error that they are specified together."""
    for each in local.MEMORY:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "0.3")
    slot = local.make_slots(spec_of(tmp_path, gpus="0.5"), ["3"], CORES)[0]
    run = {**os.environ, **slot.env}
    assert {key: run[key] for key in local.MEMORY if key in run} == {name: "0.3"}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"gpus": "1"}, "each run wants 1 and this machine has 0"),
        ({"cores": "9"}, "each run wants 9 and this machine has 8"),
    ],
)
def test_more_than_the_machine_has_is_refused(tmp_path, tree, message):
    with pytest.raises(UserError, match=message):
        local.make_slots(spec_of(tmp_path, **tree), [], CORES)


def test_a_run_ignores_usr2_and_ends_on_term_within_the_grace(tmp_path):
    child = process.start(
        [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"], tmp_path
    )
    while "up" not in (tmp_path / "log.txt").read_text().splitlines():
        time.sleep(0.02)
    child.send_signal(signal.SIGUSR2)
    time.sleep(0.1)
    assert not process.has_ended(child)
    process.stop([child], grace_s=10)
    assert process.has_ended(child) and child.wait() == -signal.SIGTERM


def test_a_run_that_does_not_answer_is_killed(tmp_path):
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = process.start([sys.executable, "-c", code], tmp_path)
    while "up" not in (tmp_path / "log.txt").read_text().splitlines():
        time.sleep(0.02)
    process.stop([child], grace_s=0.3)
    assert child.wait() == -signal.SIGKILL
    assert process.describe_exit(-9) == "killed by SIGKILL" and process.describe_exit(3) == "exit status 3"


def test_runs_end_with_the_sweep_that_is_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from dreamworld.sweep.launch import process;"
        "c = process.start([sys.executable, '-c', 'import time; time.sleep(60)'], Path(sys.argv[1]));"
        "print(c.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = parent.stdout.readline().strip()
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _alive(pid):
        time.sleep(0.05)
    assert not _alive(pid)


def _alive(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_slurm_scripts_are_printed_without_a_cluster(tmp_path):
    tree = {
        "launcher": "slurm",
        "cores": "4",
        "gpus": "1",
        "workers": "2",
        "slurm": ["partition=gpu", "time=1-12:00", "mem=32GB"],
    }
    spec = spec_of(tmp_path, **tree)
    text = slurm.scripts(spec, expand(spec), process.train_command())
    for line in (
        "--array=0-3%2",
        "--cpus-per-task=4",
        "--gpus-per-node=1",
        "--partition=gpu",
        "--time=2160",
        "--mem=32GB",
    ):
        assert f"#SBATCH {line}" in text.splitlines()
    assert "--task gym_B --seed 1" in text and text.count("# task ") == 4
    assert not (tmp_path / "s").exists()


def test_a_script_leaves_the_logging_of_others_as_it_is(tmp_path):
    program = """
import io, logging, pathlib, sys
class Owner(logging.StreamHandler):
    def close(self):
        self.stream.close()
handler = Owner(io.StringIO())
from dreamworld.sweep.launch import process, slurm
from dreamworld.sweep.plan import expand
from dreamworld.sweep.spec import make_spec
tree = {"tasks": ["gym_A"], "seeds": "0", "logdir": sys.argv[1], "launcher": "slurm"}
spec = make_spec(tree)
assert slurm.scripts(spec, expand(spec), process.train_command()) and "submitit" in sys.modules
print(handler.stream.closed)
"""
    words = [sys.executable, "-c", program, str(tmp_path / "s")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:30", 91), ("1:30:00", 90), ("2-12", 3600), ("2-12:00", 3600), ("1-00:00:30", 1441)],
)
def test_slurm_times(text, minutes):
    assert sbatch.minutes(text) == minutes


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("partitio=gpu", "did you mean partition"),
        ("nodes=-1", "slurm: nodes: got -1, expects at least 1"),
        ("cpus_per_task=0", "slurm: cpus_per_task: got 0, expects at least 1"),
        ("signal_delay_s=9999999999", "expects at most 1000000"),
        ("time=99999999999999999999-0", "expects at most 5270400"),
        ("time=soon", "time: got 'soon', expects minutes"),
        ("array_parallelism=many", "array_parallelism: got 'many', expects a whole number"),
        ("nodes=2.5", "nodes: got '2.5', expects a whole number"),
        ("stderr_to_stdout=perhaps", "stderr_to_stdout: got 'perhaps', expects True or False"),
        ("additional_parameters=abc", "got 'abc', expects KEY=VALUE"),
        ("partition=gpu a", "slurm: partition: got 'gpu a', expects letters, digits and"),
        ("account=$(whoami)", "slurm: account: got .*, expects letters"),
        ("qos=high#low", "slurm: qos: got 'high#low', expects letters"),
        ("mail_user=a b@c", "slurm: mail_user: got 'a b@c', expects letters"),
        ("constraint=a100 --wrap=x", "slurm: constraint: .* expects features"),
        ("nodelist=n1;n2", "slurm: nodelist: .* expects names of nodes"),
        ("mem=32 GB", "slurm: mem: got '32 GB', expects a number with"),
        ("gpus_per_node=a100: 2", "slurm: gpus_per_node: .* a100:2"),
        ("exclusive=yes", "slurm: exclusive: got 'yes', expects true, user"),
        ("gres=gpu:`x`", "slurm: gres: .* expects kinds"),
        ("dependency=afterok:1 2", "slurm: dependency: .* afterok:123"),
        ("comment=it's mine", "slurm: comment: .* expects words"),
        (
            "additional_parameters=reservation=a b",
            "additional_parameters: reservation: got 'a b', expects no space",
        ),
        ("additional_parameters=a b=c", "additional_parameters: got 'a b', expects the name of an option"),
    ],
)
def test_unknown_slurm_parameters_are_named(tmp_path, pair, message):
    spec = spec_of(tmp_path, launcher="slurm", slurm=[pair])
    with pytest.raises(UserError, match=message):
        slurm.scripts(spec, expand(spec), ("train",))


def test_slurm_parameters_are_what_submitit_takes(tmp_path):
    pairs = [
        "setup=module load cuda",
        "setup=hostname",
        "use_srun=false",
        "additional_parameters=reservation=mine",
        "partition= gpu,gpu-long ",
        "constraint=[a100*2&ib]|h100",
        "nodelist=node[1-4,7]",
        "comment=first try, of two",
        "exclusive=True",
    ]
    spec = spec_of(tmp_path, launcher="slurm", slurm=[*pairs, "stderr_to_stdout=False", "signal_delay_s=60"])
    lines = slurm.scripts(spec, expand(spec), ("train",)).splitlines()
    assert "#SBATCH --partition=gpu,gpu-long" in lines and "#SBATCH --exclusive" in lines
    assert "#SBATCH --nodelist='node[1-4,7]'" in lines and "#SBATCH --comment='first try, of two'" in lines
    assert "#SBATCH --constraint='[a100*2&ib]|h100'" in lines
    assert "module load cuda" in lines and "hostname" in lines and "#SBATCH --reservation=mine" in lines
    assert not any(line.startswith("srun") for line in lines) and "#SBATCH --signal=USR2@60" in lines
    assert any(line.startswith("#SBATCH --error=") for line in lines)


@pytest.mark.parametrize("name", ["half%20empty", "job%j", "back\\slash"])
def test_a_folder_whose_name_slurm_would_change_is_refused(tmp_path, name):
    spec = make_spec({"tasks": ["gym_A"], "launcher": "slurm", "logdir": str(tmp_path / name)})
    with pytest.raises(UserError, match="can't hold % or"):
        slurm.scripts(spec, expand(spec), ("train",))


def test_a_script_quotes_odd_folders_and_names(tmp_path):
    tree = {
        "tasks": ["gym_A"],
        "launcher": "slurm",
        "name": "a b'$(c)",
        "logdir": str(tmp_path / "it's $(x)"),
    }
    spec = make_spec(tree)
    text = slurm.scripts(spec, expand(spec), ("train",))
    (line,) = [line for line in text.splitlines() if line.startswith("srun")]
    assert shlex.split(line)[-1] == str(spec.folder / "slurm") and text.count("$(c)") == 1


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """cluster(sbatch=script, …) puts programs in place of SLURM's; those not given do nothing."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(slurm, "POLL_S", 0.0)

    def install(**scripts):
        for name in ("sbatch", "squeue", "scancel", "srun"):
            path = programs / name
            path.write_text(f"#!/bin/sh\n{scripts.get(name, 'exit 0')}\n")
            path.chmod(0o755)

    return install


@pytest.mark.parametrize(
    ("sbatch", "told"),
    [("echo 'error: no such partition' >&2; exit 1", "no such partition"), ("echo hello", "sbatch output")],
)
def test_a_refused_first_array_is_one_line(tmp_path, cluster, sbatch, told):
    cluster(sbatch=sbatch)
    spec = spec_of(tmp_path, launcher="slurm")
    array = slurm.make(spec, 1, ("train",))
    array.start(expand(spec)[0])
    with pytest.raises(
        UserError, match=f"launcher slurm: the job array was not submitted: .*{told}"
    ) as caught:
        array.submit()
    assert "\n" not in str(caught.value)


def test_a_sweep_whose_first_array_is_refused_leaves_nothing(tmp_path, cluster, capsys):
    cluster(sbatch="exit 1")
    tree = {"tasks": ["jax_catch"], "seeds": "0:2", "launcher": "slurm", "logdir": str(tmp_path / "a" / "b")}
    with pytest.raises(UserError, match="the job array was not submitted"):
        driver.sweep(make_spec(tree), command=["train"])
    assert not (tmp_path / "a").exists()


def test_a_later_array_that_is_refused_waits_and_costs_no_run(tmp_path, cluster, caplog):
    cluster(sbatch="echo Submitted batch job 7")
    spec = spec_of(tmp_path, launcher="slurm")
    array = slurm.make(spec, 2, ("train",))
    first, second = expand(spec)[:2]
    array.start(first)
    assert array.submit() == ["7"]
    cluster(sbatch="echo 'Socket timed out' >&2; exit 1", squeue="echo 7 7")
    array.start(second)
    assert array.poll() == [] and array.poll() == []
    assert [record.getMessage() for record in caplog.records if "Socket timed out" in record.getMessage()]
    cluster(sbatch="echo Submitted batch job 9")
    assert array.submit() == ["9"]
    assert slurm.recorded(spec.folder / "slurm.json") == {first.name: "7", second.name: "9"}


class Attack:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_a_stranger_put_into_the_folder_of_a_sweep_is_never_unpickled(
    tmp_path, cluster, monkeypatch, jobs
):
    cluster(sbatch="echo Submitted batch job 7", squeue="echo")
    monkeypatch.setattr(slurm, "SETTLE_S", -1.0)
    spec = spec_of(tmp_path, launcher="slurm")
    (spec.folder / "slurm").mkdir(parents=True)
    for name in ("7", "7_0", "7_1", "7_0_0", "7_1_0"):
        for kind in ("result", "submitted"):
            (spec.folder / "slurm" / f"{name}_{kind}.pkl").write_bytes(
                pickle.dumps(Attack(tmp_path / "owned"))
            )
    array = slurm.make(spec, jobs, ("train",))
    for job in expand(spec)[:jobs]:
        array.start(job)
    assert [code for _, code in array.poll()] == [slurm.LOST] * jobs
    assert not (tmp_path / "owned").exists()
    (submitted, *others) = list(spec.folder.glob("slurm/*/*_submitted.pkl"))
    assert len(others) == jobs - 1 and b"owned" not in submitted.read_bytes()


def test_two_calls_of_a_sweep_share_no_pickles(tmp_path, cluster):
    cluster()
    spec = spec_of(tmp_path, launcher="slurm")
    folders = {slurm.make(spec, 1, ("train",))._executor.folder for _ in range(2)}
    assert len(folders) == 2 and {folder.parent for folder in folders} == {spec.folder / "slurm"}


def test_submitted_jobs_go_on_where_their_ids_cannot_be_written(tmp_path, cluster, caplog):
    cluster(sbatch="echo Submitted batch job 7")
    spec = spec_of(tmp_path, launcher="slurm")
    (spec.folder / "slurm.json").mkdir(parents=True)
    array = slurm.make(spec, 1, ("train",))
    array.start(expand(spec)[0])
    assert array.submit() == ["7"] and "NOT WRITTEN: the job ids" in caplog.text


def test_a_cluster_whose_programs_vanish_raises_nothing(tmp_path, cluster):
    cluster(sbatch="echo Submitted batch job 7")
    spec = spec_of(tmp_path, launcher="slurm")
    array = slurm.make(spec, 1, ("train",))
    array.start(expand(spec)[0])
    array.submit()
    for name in ("squeue", "scancel"):
        (tmp_path / "bin" / name).unlink()
    assert array.poll() == []
    array.stop(0)


def test_a_launcher_without_its_cluster_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no sbatch here"):
        make_launcher(spec_of(tmp_path, launcher="slurm"), 1, ("train",))
    with pytest.raises(UserError, match="no Ray cluster answers there"):
        make_launcher(spec_of(tmp_path, launcher="ray", ray_address="127.0.0.1:1"), 1, ("train",))
    with pytest.raises(UserError, match="expects host:port"):
        make_launcher(spec_of(tmp_path, launcher="ray", ray_address="cluster"), 1, ("train",))


@pytest.mark.parametrize(("launcher", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_launcher_that_is_not_installed_names_its_extra(tmp_path, monkeypatch, launcher, package):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for program in ("sbatch", "squeue", "scancel"):
        (tmp_path / program).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=rf"not installed; pip install 'dreamworld\[{launcher}\]'"):
        make_launcher(spec_of(tmp_path, launcher=launcher), 1, ("train",))
    del package
