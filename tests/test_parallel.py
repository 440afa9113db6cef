"""The mesh: sizes, sharding rules, and equal updates on one device and on many."""

import json
import os
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from dreamworld import parallel
from dreamworld.config import ParallelConfig
from dreamworld.errors import UserError

MESHES = ("data", "fsdp", "both")


@pytest.fixture(scope="module", params=["per_step", "at_once"])
def report(request):
    """What tests/parallel_program.py found on 8 CPU devices, for each way to take weight gradients."""
    program = os.path.join(os.path.dirname(__file__), "parallel_program.py")
    done = subprocess.run(
        [sys.executable, program, request.param], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("mesh", MESHES)
def test_one_update_is_the_same_on_every_mesh(report, mesh):
    assert report[mesh]["update"] < 1e-5
    assert report[mesh]["moved"] > 1e-5  # the update did something


@pytest.mark.parametrize("mesh", MESHES)
def test_losses_of_twenty_updates_are_the_same_on_every_mesh(report, mesh):
    assert report[mesh]["losses"] < 1e-3


@pytest.mark.parametrize("seed", ["4", "7"])
def test_a_seed_among_others_on_a_mesh_of_all_three_axes_updates_as_alone(report, seed):
    assert report["seeds"][seed]["update"] < 1e-5
    assert report["seeds"][seed]["losses"] < 1e-3


def test_random_bits_do_not_depend_on_mesh_or_seed_axis(report):
    assert report["bits"]


def test_large_tensors_are_split_on_fsdp_only(report):
    assert report["data"]["split"] == 0
    assert report["fsdp"]["split"] > 10 and report["both"]["split"] > 10


@pytest.mark.parametrize("mesh", MESHES)
def test_the_compiled_update_does_not_talk_to_the_host_and_reuses_its_buffers(report, mesh):
    assert report[mesh]["transfers"] == []
    assert report[mesh]["aliased"]


def test_gradients_are_summed_over_devices_once_and_not_in_every_step_of_a_loop(report):
    everywhere, in_loops = report["data"]["collectives"]
    assert in_loops == []
    assert sorted(everywhere) == ["all-gather", "all-reduce"]  # returns, for their percentiles; gradients


def test_replicated_parameters_are_not_gathered(report):
    shapes = {f"f32[{','.join(map(str, shape))}]" for shape in report["params"]}
    assert not shapes & set(report["data"]["gathers"])
    # Imagined returns and values, [2, H, B*T]: for the percentiles of all.
    assert report["data"]["gathers"] == ["f32[2,3,32]"]


@pytest.mark.parametrize(
    ("config", "devices", "want"),
    [
        (ParallelConfig(), 8, (1, 8, 1)),
        (ParallelConfig(fsdp=4), 8, (1, 2, 4)),
        (ParallelConfig(seed=-1, data=2), 8, (4, 2, 1)),
        (ParallelConfig(data=2), 8, (1, 2, 1)),
        (ParallelConfig(), 1, (1, 1, 1)),
    ],
)
def test_minus_one_takes_the_rest_of_the_devices(config, devices, want):
    assert parallel.axis_sizes(config, devices) == want


@pytest.mark.parametrize(
    ("config", "devices", "message"),
    [
        (ParallelConfig(fsdp=3), 8, "8 devices can't be divided by .* parallel.fsdp 3, so parallel.data -1"),
        (ParallelConfig(data=16), 8, "needs 16 devices; there are 8"),
        (ParallelConfig(seed=-1), 8, "only one axis .* parallel.seed and parallel.data"),
        (ParallelConfig(fsdp=0), 8, "--parallel.fsdp 0"),
        (ParallelConfig(data=-2), 8, "--parallel.data -2"),
    ],
)
def test_sizes_that_do_not_fit_are_named(config, devices, message):
    with pytest.raises(UserError, match=message):
        parallel.axis_sizes(config, devices)


@pytest.mark.parametrize(
    ("parallel_config", "batch_size", "seeds", "message"),
    [
        (ParallelConfig(data=2), 3, 0, "--run.batch_size 3 can't be divided by parallel.data 2"),
        (ParallelConfig(seed=2, data=1), 4, 0, "--parallel.seed 2: is for runs of several --seeds"),
        (ParallelConfig(seed=2, data=1), 4, 3, "3 seeds can't be divided by parallel.seed 2"),
    ],
)
def test_a_batch_or_seeds_that_can_not_be_divided_are_named(
    monkeypatch, parallel_config, batch_size, seeds, message
):
    sizes = (parallel_config.seed, parallel_config.data, 1)
    monkeypatch.setattr(parallel, "make_mesh", lambda *_: jax.sharding.AbstractMesh(sizes, parallel.AXES))
    with pytest.raises(UserError, match=message):
        parallel.make_layout(parallel_config, batch_size=batch_size, seeds=seeds)


def spec(shape, *, threshold=100, fsdp=4, seeds=0):
    mesh: Any = jax.sharding.AbstractMesh((1, 1, fsdp), parallel.AXES)
    layout = parallel.MeshLayout(mesh, threshold, seeds)
    return tuple(layout.tensor(shape).spec)


def test_the_largest_axis_that_divides_is_split_and_small_tensors_are_not():
    assert spec((8, 64)) == (None, "fsdp")
    assert spec((64, 8)) == ("fsdp",)
    assert spec((8, 63)) == ("fsdp",)  # 63 is larger but does not divide
    assert spec((7, 63)) == ()
    assert spec((8, 4)) == ()  # 32 elements
    assert spec((8, 64), fsdp=1) == ()


def test_the_seed_axis_does_not_count_as_part_of_a_tensor():
    assert spec((2, 8, 64), seeds=2) == ("seed", None, "fsdp")
    assert spec((50, 8, 4), seeds=50) == ("seed",)


def test_a_view_of_the_whole_mesh_is_the_array_itself():
    layout = parallel.make_layout(ParallelConfig(data=1), batch_size=2)
    array = jax.device_put(np.zeros((2, 3)), layout.rows)
    assert parallel.view(array, layout.local()) is array
