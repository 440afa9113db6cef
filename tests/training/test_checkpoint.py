"""Snapshots: what is saved comes back, whatever happens to the disk or the process."""

import pathlib
import pickle
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from etils import epath

from dreamworld.errors import UserError
from dreamworld.training import snapshot, trees
from dreamworld.training.checkpoint import Checkpointer
from dreamworld.training.snapshot import retained


class Moments(NamedTuple):
    mean: jax.Array
    empty: tuple = ()


def make_agent(value: float):
    """What real pytrees have: bfloat16, scalars, namedtuples, empty nodes, an empty array, numpy."""
    return {
        "params": {
            "dense": {"kernel": jnp.full((3, 4), float(value)), "bias": jnp.full(4, value, jnp.bfloat16)}
        },
        "opt": (Moments(jnp.full(2, float(value))), {}, None),
        "none": jnp.zeros((0, 3)),
        "count": np.array(int(value), np.int64),
        "step": jnp.int32(value),
    }


def make_host(value: int):
    return {
        "counter": value,
        "random": {"state": 2**127 + value, "name": "PCG64"},
        "env": {"obs/image": np.full((2, 3), value, np.uint8)},
        "pending": [np.full(3, value, np.int64), (np.float32(value), None, True)],
        "latent": np.full((2, 2), value, ml_dtypes.bfloat16),
        "empty": {},
    }


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def save_all(directory, steps, **options):
    with Checkpointer(directory, **{"keep_last": 10, **options}) as checkpointer:
        for step in steps:
            checkpointer.save(
                step, make_agent(step), make_host(step), {"name": f"s{step}"}, score=-abs(step - 3)
            )
        assert checkpointer.wait() is None
    return Checkpointer(directory, **{"keep_last": 10, **options})


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def test_everything_comes_back_as_it_was(tmp_path):
    checkpointer = save_all(tmp_path, [1, 2])
    agent, host, meta, _ = checkpointer.restore(checkpointer.latest(), make_agent(0))
    assert_same(agent, make_agent(2))
    assert_same(host, make_host(2))
    assert host["random"]["state"] == 2**127 + 2 and type(host["pending"][1]) is tuple
    assert meta == {"name": "s2", "step": 2}
    assert isinstance(agent["count"], np.ndarray) and isinstance(agent["step"], jax.Array)


def test_save_copies_before_it_returns(tmp_path):
    consume = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0 - 1, tree), donate_argnums=0)
    agent = {"w": jnp.arange(4_000_000.0), "n": np.arange(4_000_000)}
    host = {"rows": np.arange(8_000_000)}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, agent, host, {})
        host["rows"][:] = 7
        agent["n"][:] = 7
        agent["w"] = consume(agent["w"])
        jax.block_until_ready(agent["w"])
        assert checkpointer.wait() is None
        found = checkpointer.restore(1, agent)
    np.testing.assert_array_equal(found.agent["w"], np.arange(4_000_000.0))
    np.testing.assert_array_equal(found.agent["n"], np.arange(4_000_000))
    np.testing.assert_array_equal(found.host["rows"], np.arange(8_000_000))


def test_a_partial_snapshot_is_ignored_and_cleaned_by_the_next_save(tmp_path):
    checkpointer = save_all(tmp_path, [1])
    for name in ("2/agent.orbax-checkpoint-tmp", "3/host_0"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "data").write_text("half")
    assert checkpointer.steps() == [1]
    assert checkpointer.restore(None, make_agent(0)).meta["step"] == 1
    checkpointer.save(4, make_agent(4), {}, {}, block=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "4"]


def test_retention_keeps_last_multiples_and_best(tmp_path):
    checkpointer = save_all(tmp_path, range(1, 10), keep_last=2, keep_every=4, keep_best=True)
    assert checkpointer.steps() == [3, 4, 8, 9]


def test_retention_takes_the_first_snapshot_past_a_multiple():
    scores: dict[int, float | None] = {30: None, 60: None, 90: None, 120: None, 150: None}
    assert retained(scores, keep_last=1, keep_every=50, keep_best=True) == {60, 120, 150}


def test_best_ignores_scores_that_are_not_numbers():
    assert retained({1: 5.0, 2: float("nan"), 3: None, 4: 1.0}, 1, 0, True) == {1, 4}


def test_a_score_is_added_to_a_snapshot_that_exists(tmp_path):
    checkpointer = save_all(tmp_path, [1], keep_last=1, keep_best=True)
    checkpointer.save(1, make_agent(99), {}, {}, score=100.0)
    checkpointer.save(2, make_agent(2), {}, {}, score=0.0, block=True)
    checkpointer.save(3, make_agent(3), {}, {}, score=0.0, block=True)
    assert checkpointer.steps() == [1, 3]
    assert_same(checkpointer.restore(1, make_agent(0)).agent, make_agent(1))


def test_on_commit_gets_the_metas_kept_and_the_one_being_saved(tmp_path):
    calls = []
    with Checkpointer(tmp_path, keep_last=2, on_commit=calls.append) as checkpointer:
        for step in (1, 2, 3):
            checkpointer.save(step, make_agent(step), {}, {"files": [step]})
        assert calls == [[{"files": [1]}, {"files": [2]}], [{"files": [1]}, {"files": [2]}, {"files": [3]}]]
        checkpointer.wait()
    assert calls[2:] == [[{"files": [2]}, {"files": [3]}]]


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "commit", "add"])
def test_damage_is_named_and_the_snapshot_before_is_used(tmp_path, damage, caplog):
    save_all(tmp_path, [1, 2])
    victim = tmp_path / "2" / "snapshot.json" if damage == "commit" else largest(tmp_path / "2" / "agent")
    data = bytearray(victim.read_bytes())
    if damage in ("flip", "commit"):
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
    elif damage == "truncate":
        victim.write_bytes(data[:-1])
    elif damage == "remove":
        victim.unlink()
    else:
        victim = tmp_path / "2" / "agent" / "extra"
        victim.write_text("")
    checkpointer = Checkpointer(tmp_path)
    found = checkpointer.restore(checkpointer.latest(), make_agent(0))
    assert found.meta["step"] == 1
    assert_same(found.agent, make_agent(1))
    assert victim.name in caplog.text and str(tmp_path / "2") in caplog.text
    assert checkpointer.poll() is None  # it was told once
    checkpointer.save(2, make_agent(7), {}, {}, block=True)  # the run comes past the same step again
    assert_same(checkpointer.restore(2, make_agent(0)).agent, make_agent(7))
    assert len(list(tmp_path.glob("2.damaged-*"))) == 1


def test_any_flipped_bit_of_a_snapshot_is_found(tmp_path):
    save_all(tmp_path, [1])
    random = np.random.default_rng(0)
    files = [path for path in (tmp_path / "1").rglob("*") if path.is_file() and path.stat().st_size]
    for path in files:
        good = path.read_bytes()
        bad = bytearray(good)
        bad[random.integers(len(bad))] ^= 1 << int(random.integers(8))
        path.write_bytes(bad)
        with pytest.raises(snapshot.CorruptError, match=re.escape(path.name)):
            snapshot.verify(Checkpointer(tmp_path).directory / "1")
        path.write_bytes(good)


def test_no_intact_snapshot_is_the_users_to_know(tmp_path):
    with pytest.raises(UserError, match="no complete checkpoint"):
        Checkpointer(tmp_path / "none").restore(None, make_agent(0))
    checkpointer = save_all(tmp_path, [1, 2])
    for step in "12":
        largest(tmp_path / step / "agent").write_bytes(b"")
    with pytest.raises(UserError, match=r"no checkpoint in .* is intact \(2: .*; 1: "):
        checkpointer.restore(None, make_agent(0))


def test_a_template_that_does_not_fit_is_explained(tmp_path):
    checkpointer = save_all(tmp_path, [1])
    like = make_agent(0)
    like["params"]["dense"] = {"kernel": jnp.zeros((3, 5)), "scale": jnp.zeros(4)}
    with pytest.raises(UserError) as error:
        checkpointer.restore(1, like)
    text = str(error.value)
    assert "missing params/dense/scale float32[4]" in text
    assert "unknown params/dense/bias bfloat16[4]" in text
    assert "params/dense/kernel is float32[3, 4], the agent has float32[3, 5]" in text


def test_a_subset_can_be_restored(tmp_path):
    checkpointer = save_all(tmp_path, [5])
    like = {"params": make_agent(0)["params"]}
    assert_same(checkpointer.restore(5, like, subset=True).agent, {"params": make_agent(5)["params"]})


def test_host_state_that_cannot_be_read_back_is_refused_at_once(tmp_path):
    checkpointer = Checkpointer(tmp_path)
    for bad in ({"a": {"b": object()}}, {"a": {"b": np.array([None])}}, {"a": {"b": Moments(jnp.zeros(1))}}):
        with pytest.raises(TypeError, match="/a/b"):
            checkpointer.save(1, {}, bad, {})


def test_a_pickle_in_a_snapshot_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pathlib.Path.touch, (tmp_path / "boom",))

    checkpointer = save_all(tmp_path, [1])
    folder = checkpointer.directory / "1"
    np.save(tmp_path / "1" / "host_0" / "0.npy", np.array([Bomb()], object), allow_pickle=True)
    body = snapshot.read_commit(folder)
    snapshot.commit(folder, body)  # as a stranger would: with checksums that fit
    with pytest.raises(UserError, match=r"0\.npy"):
        checkpointer.restore(1, make_agent(0))
    assert not (tmp_path / "boom").exists()


def test_nothing_that_reads_files_unpickles(repo):
    unsafe = re.compile(
        r"\b(pickle|cloudpickle|dill|joblib|shelve|marshal)\.(load|loads|open|Unpickler)\b"
        r"|allow_pickle\s*=\s*True|yaml\.(unsafe_|full_)load\(|yaml\.load\((?!.*(Safe|Base)Loader)",
        re.MULTILINE,
    )
    files = [
        path
        for folder in ("dreamworld", "agents", "envs", "scripts")
        for path in (repo / folder).rglob("*.py")
    ]
    assert len(files) > 10
    for path in files:
        found = unsafe.search(path.read_text())
        assert not found, f"{path}: {found[0]}"


@pytest.fixture
def full_disk():
    """Returns a function that makes every write beyond some kilobytes of a file fail, or ends that."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda full: resource.setrlimit(resource.RLIMIT_FSIZE, (4096 if full else limits[0], limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("part", ["agent", "host"])
def test_a_full_disk_stops_neither_training_nor_later_saves(tmp_path, full_disk, caplog, part):
    big = np.random.default_rng(0).normal(size=100_000)
    agent, host = ({"w": big}, {}) if part == "agent" else ({"w": big[:1]}, {"w": big})
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, agent, host, {}, block=True)
        full_disk(True)
        checkpointer.save(2, agent, host, {})
        problem = checkpointer.wait()
        full_disk(False)
        assert problem and checkpointer.problem == problem and caplog.messages == []  # `poll` tells it
        assert "File too large" in problem and "the last good one is 1" in problem
        assert checkpointer.poll() == problem and checkpointer.poll() is None
        assert checkpointer.steps() == [1] and [path.name for path in tmp_path.iterdir()] == ["1"]
        assert_same(checkpointer.restore(None, agent).agent, agent)
        checkpointer.save(3, agent, host, {}, block=True)
        assert checkpointer.problem is None and checkpointer.steps() == [1, 3]


FULL = """
import resource, sys
import numpy as np
from dreamworld.training.checkpoint import Checkpointer

values = np.random.default_rng(0).normal(size=40_000)
agent = {f"w{i}": values[: 1000 * i + 1] for i in range(40)}
with Checkpointer(sys.argv[1]) as checkpointer:
    checkpointer.save(1, agent, {}, {}, block=True)
    for limit in (4096, 3000, 100):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        checkpointer.save(2, agent, {}, {})
        assert checkpointer.wait()
"""


def test_a_failed_save_is_told_in_one_line_without_tracebacks_of_orbax(tmp_path):
    argv = [sys.executable, "-c", FULL, str(tmp_path / "checkpoints")]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    lines = result.stderr.splitlines()
    assert result.returncode == 0 and result.stdout == "" and len(lines) == 3, result.stderr[-3000:]
    assert all("was not saved (the last good one is 1" in line for line in lines)


def test_an_agent_that_the_disk_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    agent = {"w": np.broadcast_to(np.float32(0), 10**15)}  # 4 PB that take no memory
    with Checkpointer(tmp_path / "checkpoints") as checkpointer:
        checkpointer.save(1, agent, {}, {})
        problem = checkpointer.wait() or ""
    assert "No space left on device (the agent has 4" in problem and "are free" in problem
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_problem_not_an_exception(tmp_path):
    (tmp_path / "file").touch()
    with Checkpointer(tmp_path / "file" / "checkpoints") as checkpointer:
        checkpointer.save(1, make_agent(1), {}, {})
        assert "Not a directory" in (checkpointer.wait() or "")
        assert "there is no older one" in (checkpointer.problem or "")


# Checks what it restores, then saves as fast as it can; each save waits for the one before.
WRITER = """
import sys
import numpy as np
from dreamworld.training.checkpoint import Checkpointer

def content(step):
    random = np.random.default_rng(step)
    host = {"rows": random.integers(0, 255, 5000), "n": step}
    return {"w": random.normal(size=200_000), "n": np.int64(step)}, host

with Checkpointer(sys.argv[1], keep_last=2) as checkpointer:
    step = 0
    if checkpointer.latest() is not None:
        agent, host, meta, _ = checkpointer.restore(None, content(0)[0])
        step = meta["step"]
        wanted = content(step)
        assert np.array_equal(agent["w"], wanted[0]["w"]) and agent["n"] == step
        assert np.array_equal(host["rows"], wanted[1]["rows"]) and host["n"] == step and meta["n"] == step
        assert checkpointer.poll() is None
    print("restored", step, flush=True)
    while True:
        step += 1
        checkpointer.save(step, *content(step), {"n": step})
        print("saving", step, flush=True)
        assert checkpointer.problem is None, checkpointer.problem
"""


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.soak)])
def test_kill_at_any_moment_loses_at_most_one_interval(tmp_path, kills):
    random = np.random.default_rng(kills)
    begun = 0
    for _ in range(kills):
        argv = [sys.executable, "-c", WRITER, str(tmp_path / "checkpoints")]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        first = process.stdout.readline().split()
        assert first and first[0] == "restored", process.communicate()[1]
        assert begun - 1 <= int(first[1]) <= begun
        lines = [process.stdout.readline() for _ in range(random.integers(1, 5))]
        time.sleep(random.uniform(0, 0.1))
        process.kill()
        out, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, err
        begun = max(int(line.split()[1]) for line in [*lines, *out.splitlines()])
    with Checkpointer(tmp_path / "checkpoints", keep_last=2) as checkpointer:
        checkpointer.save(10**6, {"w": np.ones(1)}, {}, {}, block=True)
        names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
        assert names == {str(step) for step in checkpointer.steps()} and len(names) == 2


MESHES = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from dreamworld.training.checkpoint import Checkpointer

jax.config.update("jax_num_cpu_devices", 8)
auto = jax.sharding.AxisType.Auto
one = jax.make_mesh((8,), ("data",), axis_types=(auto,))
two = jax.make_mesh((2, 2), ("data", "fsdp"), axis_types=(auto, auto))
value = np.arange(64.0, dtype=np.float32).reshape(8, 8)
rows, everywhere = NamedSharding(one, P("data")), NamedSharding(one, P())
agent = {"w": jax.device_put(value, rows), "n": jax.device_put(3, everywhere)}
with Checkpointer(sys.argv[1]) as checkpointer:
    checkpointer.save(1, agent, {}, {}, block=True)
    assert checkpointer.problem is None, checkpointer.problem
    for sharding in (NamedSharding(two, P("fsdp", "data")), NamedSharding(one, P(None, "data")), None):
        spec = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding if x.ndim else None)
        found = checkpointer.restore(1, jax.tree.map(spec, agent)).agent
        assert sharding is None or found["w"].sharding == sharding
        assert np.array_equal(found["w"], value) and found["n"] == 3
"""


def test_a_snapshot_is_restored_onto_another_mesh(tmp_path):
    done = subprocess.run([sys.executable, "-c", MESHES, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


PROCESSES = """
import sys
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from dreamworld.training.checkpoint import Checkpointer

directory, port, index = sys.argv[1], sys.argv[2], int(sys.argv[3])
jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=index)
mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
sharding = NamedSharding(mesh, P("data"))
value = np.arange(8.0, dtype=np.float32)
agent = {"w": jax.make_array_from_callback((8,), sharding, lambda where: value[where]), "n": np.int64(5)}
with Checkpointer(directory, keep_last=1) as checkpointer:
    for step in (1, 2):
        checkpointer.save(step, agent, {"rows": np.full(3, index)}, {"process": index})
    assert checkpointer.wait() is None, checkpointer.problem
    assert checkpointer.steps() == [2]
    found = checkpointer.restore(None, agent)
    assert found.meta == {"process": index, "step": 2} and (found.host["rows"] == index).all()
    for shard in found.agent["w"].addressable_shards:
        assert np.array_equal(shard.data, value[shard.index])
"""


def test_several_processes_share_a_snapshot(tmp_path, caplog):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    argv = [sys.executable, "-c", PROCESSES, str(tmp_path), port]
    argv = [sys.executable, "-c", PROCESSES, str(tmp_path), port]
    runs = [subprocess.Popen([*argv, index], stderr=subprocess.PIPE, text=True) for index in "01"]
    for run in runs:
        _, err = run.communicate(timeout=60)
        assert run.returncode == 0, err
    alone = Checkpointer(tmp_path)
    found = alone.restore(None, {"w": np.zeros(8, np.float32), "n": np.int64(0)})
    np.testing.assert_array_equal(found.agent["w"], np.arange(8.0))
    assert "was written by 2 processes, now there are 1" in caplog.text and found.meta["process"] == 0


def test_types_that_came_from_another_process_are_kept_and_those_of_earlier_saves_are_read(tmp_path):
    """Unpickled, a type of numpy is no `isbuiltin` any more: it was written as one that nothing could read."""
    tree = {
        "key": np.arange(3, dtype=np.uint32),
        "done": np.array([True]),
        "low": np.ones(2, ml_dtypes.bfloat16),
    }
    folder = epath.Path(tmp_path / "host")
    trees.write_tree(folder, pickle.loads(pickle.dumps(tree)))
    text = (folder / "tree.json").read_text()
    assert text.count('"dtype": ""') == 2
    for written in (text, text.replace('"array": 0, "dtype": ""', '"array": 0, "dtype": "int32"')):
        (folder / "tree.json").write_text(written)
        found = trees.read_tree(folder)
        for name, array in tree.items():
            np.testing.assert_array_equal(found[name], array)
    assert [found[name].dtype.name for name in tree] == ["int32", "bool", "bfloat16"]
