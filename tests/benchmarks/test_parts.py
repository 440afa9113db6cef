"""Parts of an update: their names, their share of the time, their work, and what bounds them."""

import json
from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from dreamworld import flops
from dreamworld.benchmarks import hlo, parts, roofline, trace, update
from dreamworld.benchmarks.machine import describe
from dreamworld.benchmarks.roofline import Roofline
from dreamworld.benchmarks.trace import Interval, Shares
from dreamworld.errors import UserError


@pytest.mark.parametrize(
    ("op_name", "depth", "name"),
    [
        (
            "jit(update)/jvp(world_model)/ImageEncoder/conv0/conv_general_dilated",
            2,
            "world_model/ImageEncoder",
        ),
        ("jit(update)/jvp(world_model)/while/body/closed_call/Recurrent/gates/add", 2, "world_model/scan"),
        (
            "jit(update)/jvp(world_model)/while/body/closed_call/Recurrent/gates/add",
            3,
            "world_model/scan/Recurrent",
        ),
        ("jit(update)/transpose(jvp(world_model))/while/body/add_any", 2, "world_model/scan backward"),
        ("jit(update)/transpose(jvp(world_model))/ImageEncoder/conv1/mul", 1, "world_model backward"),
        ("jit(update)/jvp(behaviour)/dream/while/body/closed_call/Recurrent/add", 2, "behaviour/dream"),
        (
            "jit(update)/jvp(behaviour)/dream/while/body/closed_call/Recurrent/add",
            3,
            "behaviour/dream/Recurrent",
        ),
        ("jit(update)/jvp(behaviour)/closed_call/jit(log_softmax)/reduce_max", 2, "behaviour"),
        ("jit(update)/jvp(world_model)/vmap(jit(_gumbel))/jit(_uniform)/sub", 2, "world_model"),
        (
            "jit(update)/transpose(jvp(world_model))/ImageEncoder/ab,bc->ac/transpose",
            3,
            "world_model/ImageEncoder backward",
        ),
        ("jit(update)/optimizer/mul;jit(update)/is_finite", 2, "optimizer"),
        ("jit(update)/jit(_threefry_fold_in)/make_update.<locals>.update/while", 2, ""),
        ("jit(update)/reduce_and", 2, ""),
        ("reduce_sum", 2, ""),
        ("", 2, ""),
    ],
)
def test_a_part_is_the_scopes_and_modules_around_an_operation(op_name, depth, name):
    assert parts.scope(op_name, depth) == name


def test_instants_are_shared_and_parts_and_idle_time_add_up():
    # a  ****..***      b  ..****....      10 ns each; nothing runs at the dots of both.
    second = 10**9
    intervals = [
        Interval("a1", 0, 4 * second),
        Interval("b1", 2 * second, 5 * second),
        Interval("a2", 7 * second, 9 * second),
    ]
    found = trace.share(intervals, lambda name: name[0])
    assert found.seconds == {"a": 2 + 1 + 2, "b": 1 + 1}
    assert found.active_s == {"a": 6, "b": 3}
    assert (found.idle_s, found.whole_s) == (2, 9)
    two = trace.share(
        [Interval("a1", 0, second), Interval("a2", 0, second), Interval("b1", 0, second)],
        lambda name: name[0],
    )
    assert two.seconds == {"a": pytest.approx(2 / 3), "b": pytest.approx(1 / 3)} and two.active_s["a"] == 1


def test_the_bound_is_what_takes_longer():
    limits = Roofline(gflops=100, gb_per_s=10)
    assert limits.bound(50, 1) == ("compute", 0.5) and limits.bound(1, 2) == ("memory", 0.2)
    work = Counter({"flop": 50 * 10**9, "moved": 2 * 10**9, "kernels": 3})
    assert parts.figures("one", work, Shares({"one": 1.0}, {"one": 1.5}, 0.0, 4.0), limits) == {
        "seconds": 1.0, "share": 0.25, "active_s": 1.5, "gflop": 50.0, "gbytes": 2.0, "kernels": 3,
        "gflops": 50.0, "gb_per_s": 2.0, "bound": "compute", "of_bound": 0.5,
    }  # fmt: skip


def test_the_limits_of_the_machine_are_measured_beyond_its_caches():
    found = describe([])
    size = roofline.copied_bytes(found)
    assert size > 4 * found.last_cache_bytes or size == roofline.MOST_BYTES
    assert 0.1 < flops.memory_bandwidth(2**24) < 1e5
    within, beyond = flops.memory_bandwidth(2**14, repeats=50), flops.memory_bandwidth(2**26)
    assert within > 0 and beyond > 0.1


def test_a_traced_program_has_its_time_and_work_in_the_parts_that_do_it():
    steps, size = 5, 256

    def run(x):
        with jax.named_scope("world"):
            x = jax.lax.scan(lambda x, _: (jnp.tanh(x @ x), None), x, None, length=steps)[0]
        with jax.named_scope("behaviour"):
            return x @ x

    x = jnp.full((size, size), 0.01)
    program = jax.jit(run).lower(x).compile()
    found = parts.measure(lambda: program(x), program.as_text() or "", Roofline(100, 10), depth=2)
    table = found["parts"]
    product = 2 * size**3 / 1e9
    assert table["world/scan"]["gflop"] == pytest.approx(steps * product, rel=1e-3)
    assert table["behaviour"]["gflop"] == pytest.approx(product, rel=1e-3)
    assert table["world/scan"]["seconds"] > table["behaviour"]["seconds"] > 0
    summed = sum(row["seconds"] for row in table.values()) + found["idle_s"]
    assert summed == pytest.approx(found["traced_s"], rel=0.01, abs=1e-4)
    assert table["world/scan"]["gbytes"] >= steps * 3 * 4 * size**2 / 1e9 * 0.6


def test_a_product_names_what_is_fused_with_it():
    text = """HloModule jit_update

%fused (a: f32[2,2]) -> f32[2] {
  %a = f32[2,2]{1,0} parameter(0)
  %d = f32[2,2]{1,0} dot(%a, %a), lhs_contracting_dims={1}, rhs_contracting_dims={0}, metadata={op_name="jit(update)/behaviour/Head/dot_general"}
  ROOT %m = f32[2]{0} reduce(%d, %zero), dimensions={1}, to_apply=%max, metadata={op_name="jit(update)/behaviour/reduce_max"}
}

ENTRY %main (x: f32[2,2]) -> f32[2] {
  %x = f32[2,2]{1,0} parameter(0)
  %kept = f32[2,2]{1,0} copy(%x)
  ROOT %f = f32[2]{0} fusion(%kept), kind=kLoop, calls=%fused, metadata={op_name="jit(update)/behaviour/reduce_max"}
}
"""  # noqa: E501
    program = hlo.parse(text)
    names = {run.instruction.name: parts.name_part(program, run, 2) for run in program.runs()}
    assert names["f"] == "behaviour/Head" and names["kept"] == parts.OTHER


def test_the_parts_of_an_update_add_up_to_it(capsys):
    words = ["--configs", "debug", "--obs", "vector:4", "--act", "discrete:2", "--json", "--updates", "3"]
    assert update.main([*words, "--parts"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert {"world_model/scan", "world_model/scan backward", "behaviour/dream", "optimizer"} <= row[
        "parts"
    ].keys()
    assert row["parts"]["world_model/VectorEncoder"]["gflop"] > 0
    assert sum(part["seconds"] for part in row["parts"].values()) + row["idle_s"] == pytest.approx(
        row["traced_s"], rel=0.01
    )
    assert sum(part["kernels"] for part in row["parts"].values()) == row["kernels"]
    # XLA leaves out products whose result nobody needs, and adds none.
    gflop = sum(part["gflop"] for part in row["parts"].values())
    assert 0.9 < gflop / (flops_of(words) / 1e9) <= 1.01
    assert row["matmul_peak_gflops"] > 0 and row["memory_gb_per_s"] > 0 and row["machine"]["cores"] > 0


def test_names_are_not_those_of_an_equal_program_in_the_cache(tmp_path):
    """JAX takes a program from its cache although scopes have other names; here it must not."""

    def compiled(scope):
        def run(x):
            with jax.named_scope(scope):
                return jnp.sin(x @ x)

        return jax.jit(run).lower(jnp.ones((8, 8))).compile().as_text() or ""

    options = {"jax_compilation_cache_dir": str(tmp_path), "jax_persistent_cache_min_compile_time_secs": 0.0}
    before = {name: jax.config.values[name] for name in options}
    try:
        for name, value in options.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        assert "early" in compiled("early") and [*tmp_path.iterdir()]
        assert "late" not in compiled("late"), "JAX's cache knows names by now: names_kept is not needed"
        with update.names_kept():
            assert "late" in compiled("late")
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def flops_of(words):
    from dreamworld import cli

    config, flags = cli.parse_with(words, update.Flags(), prog="")
    agent = update.make_synthetic_agent(config, flags)
    state = jax.eval_shape(agent.init, jax.random.PRNGKey(0))
    batch = update.synthetic_batch(agent, config.run.batch_size, config.run.batch_length + 1)
    return flops.count(agent.phase.update, state, (), batch)


def test_parts_of_a_device_that_is_not_here_are_refused():
    with pytest.raises(UserError, match="can't time --parts"):
        update.main(["--configs", "debug", "--target", "h100", "--parts"])


EVENTS = """planes { name: "/host:CPU"
  lines { name: "one"
    events { metadata_id: 1 offset_ps: 1000000 duration_ps: 2000000
      stats { metadata_id: 1 str_value: "copy.1" } stats { metadata_id: 2 str_value: "jit_update" }
      stats { metadata_id: 3 int64_value: 7 } stats { metadata_id: 4 uint64_value: 55 } }
    events { metadata_id: 1 offset_ps: 9000000 duration_ps: 1000000
      stats { metadata_id: 1 str_value: "copy.1" } stats { metadata_id: 2 str_value: "jit_act" }
      stats { metadata_id: 3 int64_value: 8 } }
  }
  lines { name: "two"
    events { metadata_id: 2 offset_ps: 8000000 duration_ps: 100 stats { metadata_id: 5 uint64_value: 55 } } }
  event_metadata { key: 1 value { id: 1 name: "copy.1" } }
  event_metadata { key: 2 value { id: 2 name: "end: copy.1" } }
  stat_metadata { key: 1 value { id: 1 name: "hlo_op" } }
  stat_metadata { key: 2 value { id: 2 name: "hlo_module" } }
  stat_metadata { key: 3 value { id: 3 name: "run_id" } }
  stat_metadata { key: 4 value { id: 4 name: "_p" } }
  stat_metadata { key: 5 value { id: 5 name: "_c" } }
}"""


def test_an_instruction_ends_when_the_last_thread_that_works_on_it_does(tmp_path):
    file = tmp_path / "host.xplane.pb"
    file.write_bytes(jax.profiler.ProfileData.text_proto_to_serialized_xspace(EVENTS))
    assert trace.read(file, "jit_update") == [[Interval("copy.1", 1000, 8000)]]
