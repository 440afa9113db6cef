"""Other programs' formats: ours through each and back is bit-equal; theirs come in as their authors meant them."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from random import Random

import gymnasium
import h5py
import made
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from dreamworld.datasets import Schema, open_dataset
from dreamworld.datasets.formats.minari_spaces import encode_action
from dreamworld.datasets.interchange import export_data, import_data
from dreamworld.envs.spaces import make_act_codec
from dreamworld.errors import UserError
from dreamworld.types import Space

FORMATS = ("minari", "npz", "hdf5")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Minari's folder."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def line_of(call):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def listed(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def target(tmp_path, format):
    return "made/all-v3" if format == "minari" else tmp_path / f"out.{format}"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", made.KINDS)
def test_ours_through_another_format_and_back_is_the_same_to_the_bit(tmp_path, format, kind):
    data = made.write(tmp_path / "data", made.KINDS[kind])
    export_data(data, target(tmp_path, format), format=format)
    notes = []
    back = import_data(target(tmp_path, format), tmp_path / "back", tell=notes.append)
    assert made.same(data, back) and not notes


@pytest.mark.parametrize("format", ["npz", "hdf5"])
@pytest.mark.parametrize("absent", ["reward", "action"])
def test_what_is_absent_stays_absent(tmp_path, format, absent):
    schema = Schema(made.OBS, {} if absent == "action" else made.ACT, {}, has_reward=absent != "reward")
    data = made.write(tmp_path / "data", schema)
    export_data(data, tmp_path / "out", format=format)
    assert made.same(data, import_data(tmp_path / "out", tmp_path / "back", format=format))


@pytest.mark.parametrize("format", FORMATS)
def test_many_batches_are_one_export(tmp_path, format, monkeypatch):
    monkeypatch.setattr("dreamworld.datasets.formats.minari.BATCH", 10_000)
    data = made.write(tmp_path / "data", lengths=(30, 2, 7, 50, 1))
    export_data(data, target(tmp_path, format), format=format)
    assert made.same(data, import_data(target(tmp_path, format), tmp_path / "back"))


def test_minari_reads_what_we_export_without_loss(tmp_path):
    data = made.write(tmp_path / "data", made.KINDS["image, continuous"])
    export_data(data, "made-v0", format="minari")
    found = minari.load_dataset("made-v0")
    assert (found.total_episodes, found.total_steps) == (3, 46) and not found.storage.jpeg_encoding
    assert isinstance(found.observation_space, gymnasium.spaces.Box)
    for ours, theirs in zip(data, found.iterate_episodes()):
        assert theirs.observations.tobytes() == ours["obs/image"].tobytes()
        assert len(theirs.actions) == len(theirs.rewards) == len(theirs.observations) - 1
        assert theirs.rewards.tolist() == ours["reward"][1:].tolist()
        assert theirs.terminations[-1] == ours["is_terminal"][-1] != theirs.truncations[-1]


def test_npz_files_are_named_and_shifted_as_dreamers(tmp_path):
    data = made.write(tmp_path / "data", made.KINDS["vector, classes"], lengths=(4,))
    export_data(data, tmp_path / "out", format="npz")
    (path,) = (tmp_path / "out").glob("*.npz")
    stamp, identifier, length = path.stem.split("-")
    assert len(stamp) == 15 and len(identifier) == 32 and length == "4"
    with np.load(path, allow_pickle=False) as found:
        ours = data.episode(0)
        assert found["action"].shape == (5, 3) and not found["action"][0].any() and found["reward"][0] == 0
        assert found["action"][1:].argmax(-1).tolist() == ours["action/action"][:-1].tolist()
        assert found["vector"].tobytes() == ours["obs/vector"].tobytes()


def test_hdf5_has_a_dataset_per_column_and_where_episodes_are(tmp_path):
    data = made.write(tmp_path / "data")
    export_data(data, tmp_path / "out.h5", format="hdf5")
    with h5py.File(tmp_path / "out.h5") as file:
        found = {name: np.asarray(file[name]) for name in ("ep_len", "ep_offset", "action/gear", "image")}
    assert found["ep_len"].tolist() == [6, 2, 41] and found["ep_offset"].tolist() == [0, 6, 8]
    assert found["action/gear"][6:8].tolist() == data.episode(1)["action/gear"].tolist()
    assert found["image"][8:].tobytes() == data.episode(2)["obs/image"].tobytes()


# --- files of other programs -------------------------------------------------------------------------------------


def write_dreamer(folder, episodes=2, **changes):
    """Episodes as Dreamer writes them: float64 rewards, unit vectors as actions, no description."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(episodes):
        action = np.eye(3, dtype=np.float32)[random.integers(0, 3, 6)]
        action[0] = 0
        columns = {
            "image": random.integers(0, 255, (6, 64, 64, 3)).astype(np.uint8),
            "action": action,
            "reward": np.arange(6, dtype=np.float64),
            "discount": np.ones(6, np.float32),
            "is_first": np.arange(6) == 0,
            "is_last": np.arange(6) == 5,
            "is_terminal": (np.arange(6) == 5) & (index == 1),
        }
        columns |= changes if index == episodes - 1 else {}
        columns = {key: value for key, value in columns.items() if value is not None}
        np.savez(folder / f"2024010{index}T000000-{index:032x}-5.npz", **columns)
    return folder


def test_dreamers_own_files_come_in_with_actions_moved_to_the_row_before(tmp_path):
    notes = []
    data = import_data(
        write_dreamer(tmp_path / "npz"), tmp_path / "data", task="atari_pong", tell=notes.append
    )
    assert data.act_space == {"action": Space((), "int32", classes=3)} and data.terminals == [False, True]
    assert data.obs_space["image"].is_image and data.task == "atari_pong"
    with np.load(sorted((tmp_path / "npz").iterdir())[0]) as file:
        assert data.episode(0)["action/action"].tolist() == [*file["action"][1:].argmax(-1).tolist(), 0]
    assert data.episode(0)["reward"].tolist() == [0, 1, 2, 3, 4, 5]
    assert any("unit vectors" in note for note in notes) and any("discount" in note for note in notes)


BAD_NPZ = {
    "columns": ({"reward": None}, "has no column 'reward' as"),
    "shape": ({"image": np.zeros((6, 32, 32, 3), np.uint8)}, "not uint8 (64, 64, 3) as"),
    "nan": ({"reward": np.array([0, np.nan, 0, 0, 0, 0])}, "reward holds nan in row 1"),
    "pickle": ({"image": np.array([{}] * 6, dtype=object)}, "nothing is unpickled"),
    "text": ({"image": np.array(["a"] * 6)}, "only numbers are read"),
    "rows": ({"reward": np.zeros(5)}, "columns of different lengths"),
    "first action": (
        {"action": np.eye(3, dtype=np.float32)[[1] * 6]},
        "'action' of the first row is not zero",
    ),
    "first reward": ({"reward": np.ones(6)}, "reward of row 0 is 1"),
    "flags": ({"is_last": np.ones(6, bool)}, "is_last must be true in the last row"),
}


@pytest.mark.parametrize("name", BAD_NPZ)
def test_an_npz_that_is_no_episode_is_one_line_and_leaves_nothing(tmp_path, name):
    changes, words = BAD_NPZ[name]
    folder = write_dreamer(tmp_path / "npz", **changes)
    before = listed(tmp_path)
    line = line_of(lambda: import_data(folder, tmp_path / "data", tell=lambda note: None))
    assert words in line and str(folder) in line
    assert listed(tmp_path) == before and not (tmp_path / "data").exists()


@pytest.mark.parametrize("cut", [0, 100, -30])
def test_a_truncated_npz_is_one_line(tmp_path, cut):
    folder = write_dreamer(tmp_path / "npz")
    path = sorted(folder.iterdir())[1]
    path.write_bytes(path.read_bytes()[:cut])
    assert path.name in line_of(lambda: import_data(folder, tmp_path / "data"))
    assert not (tmp_path / "data").exists()


def test_an_npz_that_claims_more_than_it_holds_takes_no_memory(tmp_path):
    (tmp_path / "npz").mkdir()
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,), }"
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    with zipfile.ZipFile(tmp_path / "npz" / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    assert "truncated" in line_of(lambda: import_data(tmp_path / "npz", tmp_path / "data"))


def test_an_npz_that_would_not_fit_into_memory_is_not_unpacked(tmp_path, monkeypatch):
    folder = write_dreamer(tmp_path / "npz", more=np.zeros((6, 6 << 20), np.uint8))
    monkeypatch.setattr("dreamworld.datasets.memory.available_memory", lambda: (50 << 20, "a test"))
    tracemalloc.start()
    assert "of memory are available" in line_of(lambda: import_data(folder, tmp_path / "data"))
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def write_hdf5(path, **changes):
    """One file as others write it: NaN as the last action of an episode, no description."""
    action = np.linspace(-1, 1, 18, dtype=np.float32).reshape(9, 2)
    action[[3, 8]] = np.nan
    columns = {
        "pixels": np.zeros((9, 3, 64, 64), np.uint8),
        "proprio": np.arange(18, dtype=np.float64).reshape(9, 2),
        "action": action,
        "ep_len": np.array([4, 5]),
        "ep_offset": np.array([0, 4]),
    } | changes
    with h5py.File(path, "w") as file:
        for key, value in columns.items():
            if value is not None:
                file[key] = value
    return path


def test_an_hdf5_file_of_others_comes_in_without_reward_and_its_last_actions_are_zero(tmp_path):
    notes = []
    data = import_data(write_hdf5(tmp_path / "a.h5"), tmp_path / "data", tell=notes.append)
    assert data.lengths == [4, 5] and not data.has_reward and data.terminals == [False, False]
    assert data.obs_space["pixels"] == Space((64, 64, 3), "uint8", low=0, high=255)
    assert data.episode(1)["obs/proprio"].tolist() == np.arange(8, 18).reshape(5, 2).tolist()
    assert data.episode(0)["action/action"][-1].tolist() == [0, 0]
    assert any("is_terminal" in note for note in notes)


BAD_HDF5 = {
    "index": ({"ep_len": None}, "lacks the column 'ep_len'"),
    "end": ({"ep_len": np.array([4, 6])}, "is truncated"),
    "empty": ({"ep_len": np.array([4, 0])}, "episode of less than two rows"),
    "before": ({"ep_offset": np.array([-1, 4])}, "begins before the file"),
    "lengths": ({"ep_offset": np.array([0])}, "2 lengths and 1 offsets"),
    "nan": ({"proprio": np.full((9, 2), np.nan)}, "'proprio' holds nan in row 0"),
    "text": ({"proprio": np.array([b"text"] * 9)}, "only numbers are read"),
    "only actions": ({"proprio": None, "pixels": None}, "it has no observations"),
}


@pytest.mark.parametrize("name", BAD_HDF5)
def test_an_hdf5_that_holds_no_episodes_is_one_line_and_leaves_nothing(tmp_path, name):
    changes, words = BAD_HDF5[name]
    path = write_hdf5(tmp_path / "a.h5", **changes)
    line = line_of(lambda: import_data(path, tmp_path / "data", tell=lambda note: None))
    assert words in line
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.parametrize("names", [["ep_offset"], ["ep_len", "ep_offset"]])
def test_an_hdf5_index_that_is_not_there_takes_no_memory(tmp_path, names):
    path = write_hdf5(tmp_path / "a.h5", **dict.fromkeys(names))
    with h5py.File(path, "a") as file:
        for name in names:
            file.create_dataset(name, (10**12,), np.int64, chunks=(1024,))
    line = line_of(lambda: import_data(path, tmp_path / "data", tell=lambda note: None))
    assert ("1,000,000,000,000 offsets" if len(names) == 1 else "claims 96 TB") in line


@pytest.mark.parametrize("cut", [0, 7, 100, 5000])
def test_a_truncated_hdf5_is_one_line(tmp_path, cut):
    path = write_hdf5(tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[:cut])
    assert str(path) in line_of(lambda: import_data(path, tmp_path / "data"))


@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual"])
def test_an_hdf5_that_leads_to_another_file_is_refused(tmp_path, kind):
    path, secret = write_hdf5(tmp_path / "a.h5", proprio=None), write_hdf5(tmp_path / "secret.h5")
    with h5py.File(path, "a") as file:
        if kind == "external link":
            file["more"] = h5py.ExternalLink(str(secret), "/proprio")
        elif kind == "soft link":
            file["more"] = h5py.SoftLink("/pixels")
        elif kind == "external storage":
            file.create_dataset("more", (9,), "uint8", external=[(str(secret), 0, 9)])
        else:
            layout = h5py.VirtualLayout((9, 2), "float64")
            layout[:] = h5py.VirtualSource(str(secret), "proprio", (9, 2))
            file.create_virtual_dataset("more", layout)
    assert "'more'" in line_of(lambda: import_data(path, tmp_path / "data"))


def write_minari(name="others/walk-v0", steps=(3, 2), **options):
    """A data set with spaces as environments have them: nested, with actions in the environment's bounds."""
    observation = gymnasium.spaces.Dict(
        {"body": gymnasium.spaces.Dict({"pos": gymnasium.spaces.Box(-5, 5, (2,), np.float64)}),
         "mode": gymnasium.spaces.Discrete(3, start=1)}
    )  # fmt: skip
    action = gymnasium.spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 1.0]), dtype=np.float64)
    buffers = [
        EpisodeBuffer(
            observations={"body": {"pos": np.full((n + 1, 2), 0.5)}, "mode": np.full(n + 1, 2)},
            actions=[np.array([-2, 0.5])] * n,
            rewards=[float(step) for step in range(1, n + 1)],
            terminations=[step == n - 1 for step in range(n)],
            truncations=[False] * n,
        )
        for n in steps
    ]
    minari.create_dataset_from_buffers(
        name, buffers, observation_space=observation, action_space=action, jpeg_encoding=False,
        algorithm_name="expert", **options,
    )  # fmt: skip
    return name


@pytest.mark.filterwarnings("ignore")
def test_a_minari_data_set_of_others_has_the_spaces_that_its_environment_has_here(tmp_path):
    data = import_data(write_minari(), tmp_path / "data", tell=lambda note: None)
    assert set(data.obs_space) == {"body/pos", "mode"} and data.obs_space["mode"].classes == 3
    first = data.episode(0)
    assert first["obs/mode"].tolist() == [1] * 4 and first["action/action"][:3].tolist() == [[-1, 0]] * 3
    assert first["reward"].tolist() == [0, 1, 2, 3] and data.terminals == [True, True]
    assert data.labels == ["expert", "expert"]


@pytest.mark.filterwarnings("ignore")
def test_a_minari_folder_is_taken_by_its_path_too(tmp_path, home):
    write_minari()
    assert import_data(home / "others" / "walk-v0", tmp_path / "data", tell=lambda note: None).steps == 5


@pytest.mark.parametrize(
    "space",
    [
        gymnasium.spaces.Discrete(5, start=2),
        gymnasium.spaces.MultiDiscrete([3, 4]),
        gymnasium.spaces.MultiDiscrete([3, 3]),
        gymnasium.spaces.MultiBinary(3),
        gymnasium.spaces.Box(-3, 7, (2,), np.float32),
        gymnasium.spaces.Box(0, 4, (2,), np.int64),
        gymnasium.spaces.Dict({"a": gymnasium.spaces.Discrete(2), "b": gymnasium.spaces.Box(-1, 1, (1,))}),
        gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(4)]),
    ],
    ids=str,
)
def test_actions_of_a_space_become_ours_and_the_environments_again(space):
    codec = make_act_codec(space)
    space.seed(0)
    drawn = [space.sample() for _ in range(20)]
    if isinstance(space, gymnasium.spaces.Dict):
        tree = {key: np.array([row[key] for row in drawn]) for key in space.spaces}
    elif isinstance(space, gymnasium.spaces.Tuple):
        tree = tuple(np.array(column) for column in zip(*drawn))
    else:
        tree = np.array(drawn)
    found = encode_action(space, tree, codec.spaces)
    for index, row in enumerate(drawn):
        again = codec.decode({key: value[index] for key, value in found.items()})
        for one, other in zip(jax_leaves(row), jax_leaves(again)):
            np.testing.assert_allclose(one, other, atol=1e-6)


def jax_leaves(tree):
    import jax

    return jax.tree.leaves(tree)


@pytest.mark.filterwarnings("ignore")
def test_a_minari_data_set_without_spaces_builds_no_environment(tmp_path, home):
    write_minari()
    path = home / "others" / "walk-v0" / "data" / "metadata.json"
    row = json.loads(path.read_text())
    del row["action_space"]
    spec = {"id": "Bad-v0", "entry_point": "antigravity:geohash", "kwargs": {}}
    path.write_text(json.dumps(row | {"env_spec": json.dumps(spec)}))
    assert "action_space is missing" in line_of(lambda: import_data("others/walk-v0", tmp_path / "data"))
    assert "antigravity" not in sys.modules


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cut", [0, 50, 4000])
def test_a_truncated_minari_file_is_one_line(tmp_path, home, cut):
    write_minari()
    path = home / "others" / "walk-v0" / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[:cut])
    assert "main_data.hdf5" in line_of(lambda: import_data("others/walk-v0", tmp_path / "data"))
    assert not (tmp_path / "data").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_minari_episode_that_is_missing_is_one_line(tmp_path, home):
    write_minari()
    with h5py.File(home / "others" / "walk-v0" / "data" / "main_data.hdf5", "a") as file:
        del file["episode_1"]
    assert "lacks episode 1 of 2" in line_of(lambda: import_data("others/walk-v0", tmp_path / "data"))


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_an_import_overwrites_nothing(tmp_path, format, data):
    export_data(data, target(tmp_path, format), format=format)
    before = listed(tmp_path)
    assert "nothing in it is overwritten" in line_of(lambda: import_data(target(tmp_path, format), data.path))
    assert listed(tmp_path) == before


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_overwrites_nothing(tmp_path, format, data):
    export_data(data, target(tmp_path, format), format=format)
    before = listed(tmp_path)
    line = line_of(lambda: export_data(data, target(tmp_path, format), format=format))
    assert "nothing is overwritten" in line
    assert listed(tmp_path) == before


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_of_damaged_data_leaves_nothing(tmp_path, format, data):
    (path,) = data.path.glob("rows-*.dwr")
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    before = listed(tmp_path)
    line_of(lambda: export_data(open_dataset(data.path), target(tmp_path, format), format=format))
    assert {file for file in listed(tmp_path) if file.name != "namespace_metadata.json"} == set(before)


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("nowhere", {}, "there is no such file or folder"),
        ("some/walk-v0", {}, "there is no such Minari data set in"),
        (".", {}, "is no Minari data set and holds no .npz episodes"),
        (".", {"format": "nzp"}, "did you mean npz?"),
        (".", {"format": "hdf5"}, "--format hdf5 reads a file"),
        ("data", {}, "is a data set of dreamworld already"),
    ],
)
def test_a_source_that_is_none_is_one_line(tmp_path, monkeypatch, data, source, options, words):
    monkeypatch.chdir(tmp_path)
    assert words in line_of(lambda: import_data(source, tmp_path / "new", **options))


@pytest.mark.parametrize(
    "name", ["../out-v0", "/tmp/out-v0", "out", "a/out-v0", "a-v0", "a/../b-v0", "x\x1b-v0"]
)
def test_a_minari_id_that_is_none_is_one_line(data, name):
    line_of(lambda: export_data(data, name, format="minari"))


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_that_the_disk_can_not_hold_is_not_begun(tmp_path, format, data, monkeypatch):
    whole = sum(path.stat().st_size for path in data.path.glob("rows-*"))
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, whole))  # type: ignore[attr-defined]
    before = listed(tmp_path)
    assert "left" in line_of(lambda: export_data(data, target(tmp_path, format), format=format))
    assert listed(tmp_path) == before


def test_a_disk_that_fills_up_is_one_line_and_leaves_what_was_complete(tmp_path):
    """For files of more than 50 kB the system says what it says on a full disk."""
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(pathlib.Path(made.__file__).parent)!r})
import made
from dreamworld.datasets.interchange import export_data, import_data
whole = made.write("whole", lengths=(300,))
export_data(whole, "npz", format="npz")
small = made.write("small", lengths=(5,))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for call in (
    lambda: made.write("a/b/new", lengths=(300,)),
    lambda: made.write("small", lengths=(300,), append=True),
    lambda: export_data(whole, "a/b/out", format="npz"),
    lambda: import_data("npz", "a/b/imported"),
    lambda: export_data(whole, "out.h5", format="hdf5"),
    lambda: export_data(whole, "out-v0", format="minari"),
):
    try:
        call()
        print("nothing was said")
    except ValueError as error:
        print(error)
print(made.open_dataset("small").episodes)
"""
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MINARI_DATASETS_PATH": str(tmp_path / "minari")},
    )
    assert found.returncode == 0, found.stderr
    *lines, episodes = found.stdout.splitlines()
    assert len(lines) == 6 and episodes == "1"
    names = [tmp_path / "a/b/new", tmp_path / "small", "a/b/out", "a/b/imported"]
    assert lines[:4] == [f"{name} can't be written: File too large" for name in names]
    assert all(
        "can't hold: File too large" in line for line in lines[4:]
    )  # which the HDF5 library would crash at
    assert sorted(os.listdir(tmp_path)) == ["npz", "small", "whole"]
    assert (
        not (tmp_path / "new").exists()
        and not (tmp_path / "out").exists()
        and not (tmp_path / "imported").exists()
    )


def test_minari_is_given_an_absolute_path(data, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", "here")
    assert "MINARI_DATASETS_PATH is here" in line_of(lambda: export_data(data, "made-v0", format="minari"))


def test_minari_can_hold_nothing_absent(tmp_path):
    data = made.write(tmp_path / "data", Schema(made.OBS, made.ACT, {}, has_reward=False))
    assert "it has no reward, which Minari needs" in line_of(
        lambda: export_data(data, "made-v0", format="minari")
    )


@pytest.mark.parametrize(("format", "package"), [("minari", "minari"), ("hdf5", "h5py")])
def test_a_missing_package_names_the_extra(tmp_path, data, format, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    line = line_of(lambda: export_data(data, target(tmp_path, format), format=format))
    assert f"needs {package}" in line and "pip install 'dreamworld[data]'" in line


def test_names_that_files_use_for_something_else_are_refused(tmp_path):
    data = made.write(tmp_path / "data", Schema({"discount": Space((), "float32")}, made.ACT))
    assert "rename it" in line_of(lambda: export_data(data, tmp_path / "out", format="npz"))
    assert not (tmp_path / "out").exists()


# --- damage of every kind ----------------------------------------------------------------------------------------

WEIRD = [None, True, -1, 2**70, 1e308, "x", "../x", "\x1b", [], {}, [[]], ["a"], {"a": 1}, float("nan")]


def damage(path, random):
    """Flips bits, cuts, or puts another value anywhere into JSON."""
    if path.suffix == ".json" and random.random() < 0.8:
        path.write_text(json.dumps(replace_one(json.loads(path.read_text()), random)))
        return
    content = bytearray(path.read_bytes())
    if random.random() < 0.3:
        del content[random.randrange(len(content)) :]
    for _ in range(random.choice([1, 20])):
        if content:
            content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def replace_one(value, random):
    if isinstance(value, dict | list) and value and random.random() < 0.8:
        key = random.choice(list(value) if isinstance(value, dict) else range(len(value)))
        value[key] = replace_one(value[key], random)
        return value
    return random.choice(WEIRD)


@pytest.mark.parametrize("format", ["own", *FORMATS])
@pytest.mark.parametrize("seed", range(3))
def test_damage_of_any_kind_is_one_line_or_harmless(tmp_path, home, format, seed):
    made.write(tmp_path / "own")
    if format != "own":
        export_data(open_dataset(tmp_path / "own"), target(tmp_path, format), format=format)
    source = {"own": tmp_path / "own", "minari": home / "made" / "all-v3"}.get(
        format, tmp_path / f"out.{format}"
    )
    files = [path for path in [source, *source.rglob("*")] if path.is_file() and path.name != ".lock"]
    random, whole = Random(seed), {path: path.read_bytes() for path in files}
    refused = 0
    for number in range(25):
        damage(random.choice(files), random)
        try:
            if format == "own":
                list(open_dataset(source))
            else:
                import_data(source, tmp_path / f"new{number}", format=format, tell=lambda note: None)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error) and not (tmp_path / f"new{number}").exists()
        for path, content in whole.items():
            path.write_bytes(content)
    assert refused > 10
