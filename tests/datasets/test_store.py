"""Data sets on disk: what is written comes back to the bit, what is damaged is named, nothing is overwritten."""

import json
import os
import pathlib
import resource
import subprocess
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import made

from dreamworld.config import ReplayConfig
from dreamworld.datasets import (
    BadEpisode,
    DataWriter,
    Schema,
    inspect,
    is_held_out,
    make_episode,
    open_dataset,
    split,
)
from dreamworld.errors import UserError
from dreamworld.replay import Replay, files
from dreamworld.types import Space


def line_of(call):
    """The one line of the UserError that a call raises."""
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def listed(folder):
    """{name: content} of all files below a folder."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_is_written_comes_back_to_the_bit(data):
    assert (data.episodes, data.steps, data.rows, data.lengths) == (3, 46, 49, [6, 2, 41])
    assert data.labels == ["random", "half", "random"] and data.terminals == [False, True, False]
    for index, episode in enumerate(data):
        wanted = made.make_rows(made.WHOLE, data.lengths[index] - 1, index, terminal=index % 2 == 1)
        assert episode.keys() == wanted.keys()
        for key in wanted:
            assert episode[key].dtype == wanted[key].dtype and episode[key].tobytes() == wanted[key].tobytes()
        assert data.returns[index] == wanted["reward"].sum(dtype=np.float64)


def test_a_data_set_says_where_it_is_and_what_it_holds(data):
    said = repr(data)
    assert (
        said.startswith(f"DataSet({str(data.path)!r}, 3 episodes: sees ")
        and "gear: " in said.partition("; acts ")[2]
    )


def test_rows_follow_the_convention_of_replay(data):
    first = data.episode(1)
    assert first["is_first"].tolist() == [True, False] and first["is_last"].tolist() == [False, True]
    assert first["is_terminal"].tolist() == [False, True]
    assert first["reward"][0] == 0 and not first["action/steer"][-1].any() and first["action/gear"][-1] == 0


def test_episodes_longer_than_a_record_and_files_beside_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr("dreamworld.datasets.writer.FILE_BYTES", 200_000)
    monkeypatch.setattr("dreamworld.datasets.writer.RECORD_BYTES", 20_000)
    data = made.write(tmp_path / "data", lengths=(5, 700, 3, 300, 2))
    assert len(data.header.files) > 1
    for index, episode in enumerate(data):
        wanted = made.make_rows(made.WHOLE, data.lengths[index] - 1, index, terminal=index % 2 == 1)
        assert all(episode[key].tobytes() == wanted[key].tobytes() for key in wanted)
    assert [len(e["reward"]) for e in data.iterate([4, 1])] == [3, 701]


@pytest.mark.parametrize("absent", ["reward", "action"])
def test_what_is_absent_is_stored_nowhere(tmp_path, absent):
    schema = Schema(made.OBS, {} if absent == "action" else made.ACT, {}, has_reward=absent != "reward")
    data = made.write(tmp_path / "data", schema)
    assert (data.has_reward, data.has_action) == (absent != "reward", absent != "action")
    assert json.loads((data.path / "dataset.json").read_text())["absent"] == [absent]
    assert not any(key == absent or key.startswith(f"{absent}/") for key in data.episode(0))
    assert bool(data.returns) == data.has_reward


def test_appending_goes_on_after_the_last_episode(data):
    before = listed(data.path)
    more = made.write(data.path, lengths=(7,), append=True)
    assert (more.episodes, more.lengths[-1], more.steps) == (4, 8, 53)
    after = listed(data.path)
    assert all(after[path] == before[path] for path in before if path.suffix == ".dwr")
    assert made.make_rows(made.WHOLE, 7, 0)["obs/image"].tobytes() == more.episode(3)["obs/image"].tobytes()


def test_appending_to_nothing_begins(tmp_path):
    assert made.write(tmp_path / "data", append=True).episodes == 3


def test_files_with_odd_names_are_not_counted(data):
    (data.path / "rows-²²²²²²²².dwr").touch()
    assert made.write(data.path, append=True).episodes == 6


def test_other_spaces_are_not_appended(data):
    before = listed(data.path)
    other = Schema(made.OBS | {"vector": Space((4,), "float32")}, made.ACT, made.EXTRA)
    line = line_of(lambda: DataWriter(data.path, other, append=True))
    assert "observation 'vector' is float32 (4,), not float32 (3,)" in line and str(data.path) in line
    without = Schema(made.OBS, made.ACT, made.EXTRA, has_reward=False)
    assert "these are absent" in line_of(lambda: DataWriter(data.path, without, append=True))
    assert listed(data.path) == before


@pytest.mark.parametrize("what", ["data set", "folder", "file", "link"])
def test_nothing_is_overwritten(tmp_path, what):
    path = tmp_path / "there"
    if what == "data set":
        made.write(path)
    elif what == "folder":
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    elif what == "file":
        path.write_text("mine")
    else:
        (tmp_path / "elsewhere").mkdir()
        path.symlink_to(tmp_path / "elsewhere")
    before = listed(tmp_path)
    assert "new folder" in line_of(lambda: DataWriter(path, made.WHOLE))
    assert listed(tmp_path) == before


def test_one_process_at_a_time_adds(data):
    code = f"""
import sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import made
try:
    made.write({str(data.path)!r}, append=True)
except ValueError as error:
    print(error)
"""
    with DataWriter(data.path, made.WHOLE, append=True):
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"pid {os.getpid()}" in found.stdout and "is adding to this data set" in found.stdout, found.stderr


def test_nothing_is_made_without_an_episode(tmp_path):
    with DataWriter(tmp_path / "data", made.WHOLE):
        pass
    assert not (tmp_path / "data").exists()


CHANGES = {
    "missing column": (lambda e: e.pop("obs/vector"), "lacks the column 'obs/vector'"),
    "another column": (lambda e: e.update(more=e["reward"]), "has the column 'more'"),
    "shape": (
        lambda e: e.update({"obs/vector": e["obs/vector"][:, :2]}),
        "observation 'vector' is float32 (2,)",
    ),
    "dtype": (lambda e: e.update(reward=e["reward"].astype("float64")), "reward is float64"),
    "rows": (lambda e: e.update({"action/gear": e["action/gear"][:-1]}), "action 'gear' has 5 rows where"),
    "nan": (lambda e: e["obs/vector"].__setitem__((2, 1), np.nan), "holds nan in row 2"),
    "infinity": (lambda e: e["reward"].__setitem__(3, np.inf), "reward holds inf in row 3"),
    "class": (
        lambda e: e["action/gear"].__setitem__(1, 3),
        "holds 3 in row 1, which is not one of 3 classes",
    ),
    "first": (lambda e: e["is_first"].__setitem__(2, True), "is_first must be true in row 0"),
    "last": (lambda e: e["is_last"].__setitem__(2, True), "is_last must be true in the last row"),
    "terminal": (
        lambda e: e["is_terminal"].__setitem__(2, True),
        "is_terminal may be true in the last row only",
    ),
    "reward": (lambda e: e["reward"].__setitem__(0, 1), "reward of row 0 is 1"),
    "action": (lambda e: e["action/gear"].__setitem__(-1, 1), "after its last row, which must be zero"),
    "one row": (lambda e: e.update({k: v[:1] for k, v in e.items()}), "has 1 of the 2 rows"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_no_episode_is_refused_in_one_line(tmp_path, name):
    change, words = CHANGES[name]
    episode = made.make_rows(made.WHOLE, 5, 0)
    change(episode)
    with DataWriter(tmp_path / "data", made.WHOLE) as writer, pytest.raises(BadEpisode) as caught:
        writer.add(episode)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_make_episode_puts_actions_before_and_rewards_after_a_step():
    schema = Schema({"x": Space((), "float32")}, {"action": Space((), "int32", classes=9)})
    obs = {"x": np.arange(3, dtype=np.float32)}
    rows = make_episode(schema, obs, {"action": np.array([7, 8], np.int32)}, [0.5, 1.5], terminal=True)
    assert rows["action/action"].tolist() == [7, 8, 0] and rows["reward"].tolist() == [0, 0.5, 1.5]
    assert rows["is_terminal"].tolist() == [False, False, True]


# --- damage ------------------------------------------------------------------------------------------------------


def test_a_flipped_byte_is_named_and_costs_its_episode_only(data):
    (path,) = data.path.glob("rows-*.dwr")
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    line = line_of(lambda: data.episode(0))
    assert path.name in line and "damaged" in line and "episode 0 is lost" in line
    assert data.episode(2)["is_last"][-1]


@pytest.mark.parametrize("cut", [0, 10, 2000, -1])
def test_a_truncated_file_is_one_line(data, cut):
    (path,) = data.path.glob("rows-*.dwr")
    path.write_bytes(path.read_bytes()[:cut])
    assert path.name in line_of(lambda: open_dataset(data.path).episode(0))


def test_a_missing_file_is_one_line(data):
    (path,) = data.path.glob("rows-*.dwr")
    path.unlink()
    assert "is missing" in line_of(lambda: open_dataset(data.path).episode(0))


HEADERS = {
    "version": (2, "format version 2"),
    "format": ("another", "not the header of a data set"),
    "files": (["../rows-00000000.dwr"], "which no file of a replay has"),
    "episodes": ([[6, 0, 0, 0]], "steps must be the 5 steps"),
    "steps": (7, "steps must be"),
    "returns": ([1, "2", 3], "returns must be a list of finite numbers"),
    "returns of floats only": ([1e308] * 3, "returns must be a list of finite numbers, up to 1e+51"),
    "policies": (["random", "e\x1bvil"], "control character"),
    "absent": (["action"], "contradict"),
    "task": (7, "task must be text"),
}


@pytest.mark.parametrize("key", HEADERS)
def test_a_header_that_is_none_is_one_line(data, key):
    value, words = HEADERS[key]
    path = data.path / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key.split()[0]: value}))
    assert words in line_of(lambda: open_dataset(data.path))


FLOATS = {"dtype": "float32", "classes": None, "low": None, "high": None}
LARGE = {
    "one": {"vector": FLOATS | {"shape": [1 << 30]}},
    "bytes": {"vector": FLOATS | {"shape": [1 << 29]}},
    "together": {str(index): FLOATS | {"shape": [1 << 25]} for index in range(9)},
}


@pytest.mark.parametrize("name", LARGE)
def test_spaces_of_which_no_row_can_be_are_one_line(data, name):
    path = data.path / "spaces.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"obs": LARGE[name]}))
    line = line_of(lambda: open_dataset(data.path))
    assert line.startswith(str(path)) and "at most 1.07 GB" in line


@pytest.mark.parametrize("what", ["obs", "act", "extra"])
def test_more_keys_than_an_agent_is_compiled_for_are_one_line(data, tmp_path, what):
    path, many = data.path / "spaces.json", {f"key{index}": FLOATS | {"shape": []} for index in range(3000)}
    path.write_text(json.dumps(json.loads(path.read_text()) | {what: many}))
    assert line_of(lambda: open_dataset(data.path)) == f"{path}: {what} has 3,000 spaces, of at most 1,000"
    spaces = {
        "obs": {"vector": Space((3,), "float32")},
        "act": {"action": Space((), "int32", classes=2)},
        "extra": {},
    }
    spaces[what] = {key: Space((), "float32") for key in many}
    line = line_of(lambda: DataWriter(tmp_path / "new", Schema(*spaces.values()), source="test"))
    assert "the data has 3,000 " in line and "at most 1,000: join them into arrays" in line


@pytest.mark.parametrize("thing", ["link out", "link to nothing", "pipe", "folder"])
@pytest.mark.parametrize("name", ["dataset.json", "spaces.json", "rows-00000000.dwr"])
def test_something_else_in_place_of_a_file_is_named(data, tmp_path, name, thing):
    path = data.path / name
    path.rename(tmp_path / "outside")
    if thing == "pipe":
        os.mkfifo(path)
    elif thing == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / ("outside" if thing == "link out" else "nothing"))
    line = line_of(lambda: inspect.summary(open_dataset(data.path)))
    assert line.startswith(f"{path}: is a ") and line.count(str(path)) == 1


@pytest.mark.parametrize("row", [[1, 0, 0, 0], [6, 2, 0, 0], [6, 0, 1, 0], [6, 0, 0, 2], [6, -1, 0, 0]])
def test_an_episode_out_of_range_is_one_line(data, row):
    path = data.path / "dataset.json"
    header = json.loads(path.read_text())
    header["episodes"][0] = row
    path.write_text(json.dumps(header))
    assert "episodes must be" in line_of(lambda: open_dataset(data.path))


def test_an_episode_longer_than_its_rows_takes_no_memory(data):
    path = data.path / "dataset.json"
    header = json.loads(path.read_text())
    header["episodes"][0][0] += 1 << 38
    header["steps"] += 1 << 38
    path.write_text(json.dumps(header))
    assert "does not hold the" in line_of(lambda: open_dataset(data.path).episode(0))


def test_rows_of_another_data_set_are_no_episode(data, tmp_path):
    other = made.write(tmp_path / "other", made.KINDS["vector, classes"])
    (path,) = data.path.glob("rows-*.dwr")
    path.write_bytes((other.path / path.name).read_bytes())
    assert "column" in line_of(lambda: open_dataset(data.path).episode(0))


def test_a_file_of_anothers_making_can_claim_no_more_than_it_holds(data):
    """Checksums and all: rows that the table says are there, and are not."""
    path = data.path / "rows-00000000.dwr"
    with files.FileWriter(path) as file:
        section = file.section(b"x")
        record = {
            "stream": 0,
            "start": 0,
            "first": 0,
            "rows": 6,
            "columns": [section] * 2,
            "ends": [[1], [1]],
        }
        file.close({"kind": "rows", "version": 1, "codec": "lz4", "records": [record]})
    assert path.name in line_of(lambda: open_dataset(data.path).episode(0))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "there is no such folder"),
        (lambda path: path.write_text(""), "is a file"),
        (lambda path: path.mkdir(), "it has no dataset.json"),
        (
            lambda path: (path.mkdir(), (path / "config.yaml").write_text("")),
            "is a run, not a data set; record one",
        ),
    ],
)
def test_what_is_no_data_set_says_what_it_is(tmp_path, make, words):
    make(tmp_path / "place")
    assert words in line_of(lambda: open_dataset(tmp_path / "place"))


# --- held out ----------------------------------------------------------------------------------------------------


def test_the_same_episodes_are_held_out_everywhere():
    assert [index for index in range(60) if is_held_out(index, 0.1)] == [4, 15, 19, 33, 40, 43, 56]


def test_more_episodes_move_none():
    train, held = split(100, 0.2)
    more_train, more_held = split(1000, 0.2)
    assert set(train) <= set(more_train) and set(held) <= set(more_held)
    assert sorted(more_train + more_held) == list(range(1000)) and 150 < len(more_held) < 250


def test_a_larger_share_holds_out_those_of_a_smaller_one_too():
    assert set(split(500, 0.1)[1]) <= set(split(500, 0.3)[1])


@pytest.mark.parametrize("episodes", [2, 3, 5])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_small_data_set_has_both_kinds(episodes, share):
    train, held = split(episodes, share)
    assert train and held and sorted(train + held) == list(range(episodes))


def test_share_zero_and_a_single_episode_hold_nothing_out():
    assert split(9, 0) == (list(range(9)), []) and split(1, 0.01)[0] == [0]


@pytest.mark.parametrize("share", [-0.1, 1, float("nan")])
def test_an_impossible_share_is_one_line(share):
    assert "held-out share" in line_of(lambda: split(5, share))


def test_a_data_set_splits_by_its_episodes(data):
    assert data.split(0.5) == split(3, 0.5)


# --- other parts of the house ------------------------------------------------------------------------------------


def test_rows_go_into_replay_as_they_are(data):
    replay = Replay(
        data.schema.row_spaces(),
        ReplayConfig(chunk=8, min_starts=1),
        num_envs=1,
        length=6,
        context=1,
        capacity_steps=100,
    )
    for episode in data:
        for index in range(len(episode["is_first"])):
            replay.add({key: value[index : index + 1] for key, value in episode.items()})
    batch = replay.sample(20)
    assert replay.rows == data.rows and batch["obs/image"].shape == (20, 6, 16, 16, 3)
    whole = {key: np.concatenate([episode[key] for episode in data]) for key in data.episode(0)}
    for window, row in zip(batch["obs/vector"], batch["row"][:, 0]):
        assert window.tobytes() == whole["obs/vector"][row : row + 6].tobytes()


def test_a_data_set_says_how_other_spaces_differ(data):
    assert data.difference(made.OBS, made.ACT) == ""
    assert "action 'gear' is missing" in data.difference(made.OBS, {"steer": made.STEER})
    other = made.OBS | {"vector": Space((4,), "float32")}
    assert data.difference(other, made.ACT) == "observation 'vector' is float32 (4,), not float32 (3,)"


def test_absent_actions_fit_any(tmp_path):
    data = made.write(tmp_path / "data", Schema(made.OBS, {}))
    assert data.difference(made.OBS, made.ACT) == ""


def test_a_data_set_whose_lock_can_not_be_written_is_named_as_it_was_given(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # the system says what it says on a full disk
    try:
        with pytest.raises(UserError) as caught:
            made.write(tmp_path / "a" / "new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value) == f"{tmp_path / 'a' / 'new'} can't be written: File too large"
    assert not list(tmp_path.iterdir())
