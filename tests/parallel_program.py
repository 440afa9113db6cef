"""One process with 8 CPU devices: the same updates on several meshes. Prints a JSON object for test_parallel.py.

python parallel_program.py per_step|at_once     # weight gradients of the observe scan
"""

import json
import re
import sys
from typing import Any

import jax

jax.config.update("jax_num_cpu_devices", 8)

import numpy as np  # noqa: E402

from dreamworld import cli, parallel  # noqa: E402
from dreamworld.benchmarks.update import Flags, make_synthetic_agent, synthetic_batch  # noqa: E402
from dreamworld.config import ParallelConfig  # noqa: E402
from dreamworld.training.learner import Learner  # noqa: E402

BATCH, UPDATES = 8, 20
MESHES = {"data": (1, 8, 1), "fsdp": (1, 1, 8), "both": (1, 4, 2)}


def make_agent(gradients):
    words = ["--configs", "debug", "--run.batch_size", str(BATCH), "--run.compile_cache", ""]
    words += ["--agent.weight_gradients", gradients]
    # The optimiser divides by the gradient's size: without eps, one that is all rounding moves either way.
    words += ["--agent.behaviour.imag_length", "3", "--agent.optim.warmup", "0", "--agent.optim.eps", "1e-3"]
    agent = make_synthetic_agent(cli.parse(words), Flags(obs="vector:5", act="discrete:4"))
    return agent, [synthetic_batch(agent, BATCH, 5, seed=index) for index in range(4)]


def settle(learner):
    """Gives the two-hot heads a narrow bias, as learning does.

    Fresh ones weigh bins of +-5e8 with 1/255 each: there the last bit of a probability moves a value by 0.1,
    and no two ways to add agree.
    """
    params = {part: dict(modules) for part, modules in learner.state.params.items()}
    for part, name in (("behaviour", "critic"), ("world", "reward")):
        head = params[part][name]
        bias = np.array(jax.device_get(head["out"]["bias"]))
        bias -= 0.3 * np.abs(np.arange(255) - 127, dtype=np.float32)
        out = {**head["out"], "bias": jax.device_put(bias, head["out"]["bias"].sharding)}
        params[part][name] = {**head, "out": out}
    slow = {"behaviour": {"critic": jax.tree.map(jax.numpy.copy, params["behaviour"]["critic"])}}
    learner.state = learner.state._replace(params=params, slow=slow)


def compiled(learner, batch):
    """Compiles the update once, to run it and to read it."""
    arguments = (learner.init_guard(batch), learner.state, learner.learning().carry, batch)
    program = learner.jit_update().lower(*arguments).compile()
    learner.set_update(program)
    return program


def train(learner, batches, count):
    """Host copies of the state after one update, and the losses of all."""
    settle(learner)
    losses: list[Any] = []
    first: Any = None
    for index in range(count):
        output = learner.update(batches[index % len(batches)])
        first = first or jax.device_get(learner.state)
        losses.append(jax.device_get(output.metrics))
    return first, losses


def distance(a, b):
    """Largest difference of two pytrees, absolute below 1 and relative above."""
    scaled = lambda x, y: np.max(
        np.abs(np.asarray(x, np.float64) - y) / np.maximum(1.0, np.abs(y)), initial=0
    )
    return float(max(jax.tree.leaves(jax.tree.map(scaled, a, b))))


def gathers(text):
    """Shapes that all-gathers of an optimised program produce."""
    found = re.findall(r"= \(?(\w+\[[\d,]*\])[^=]*? all-gather(?:-start)?\(", text)
    return sorted(set(found))


def transfers(text):
    """Operations of an optimised program that talk to the host."""
    names = r"(infeed|outfeed|send|recv|send-done|recv-done)\("
    calls = re.findall(r'custom_call_target="([^"]*(?:callback|Host)[^"]*)"', text)
    return sorted(set(re.findall(r"[^\w-]" + names, text))) + calls


def collectives(text):
    """Operations of an optimised program that talk to other devices: all of them, and those inside of loops."""
    computations: dict[str, list[str]] = {}
    for line in text.splitlines():
        if head := re.match(r"(?:ENTRY )?%?([\w.-]+) \(.*\{$", line):
            lines = computations[head[1]] = []
        elif line.startswith(" "):
            lines.append(line)
    kinds = r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
    found = {name: re.findall(kinds, "\n".join(lines)) for name, lines in computations.items()}
    calls = {name: set(re.findall(r"%([\w.-]+)", "\n".join(lines))) for name, lines in computations.items()}
    inside, new = set(), set(re.findall(r"body=%?([\w.-]+)", text))
    while new:
        inside |= new
        new = {call for name in new for call in calls[name] if call in computations} - inside
    listed = lambda names: [kind for name in names for kind in found[name]]
    return listed(found), listed(sorted(inside))


def check_meshes(agent, batches, program):
    single = Learner(agent, 0, num_envs=2, batch_size=BATCH, layout=layout_of((1, 1, 1)))
    placed = [single.layout.put(batch) for batch in batches]
    single.set_update(program)
    want_state, want_losses = train(single, placed, UPDATES)
    shapes = [list(leaf.shape) for leaf in jax.tree.leaves(want_state.params)]
    report: dict[str, Any] = {"params": shapes}
    for name, sizes in MESHES.items():
        learner = Learner(agent, 0, num_envs=2, batch_size=BATCH, layout=layout_of(sizes))
        placed = [learner.layout.put(batch) for batch in batches]
        text = compiled(learner, placed[0]).as_text()
        state, losses = train(learner, placed, UPDATES)
        split = [not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(learner.state.params)]
        report[name] = {
            "update": distance(state, want_state),
            "losses": max(distance(got, want) for got, want in zip(losses, want_losses)),
            "moved": distance(state.params, jax.device_get(agent.init(jax.random.PRNGKey(0)).params)),
            "gathers": gathers(text),
            "collectives": collectives(text),
            "transfers": transfers(text),
            "split": sum(split),
            "aliased": "input_output_alias" in text,
        }
    return report


def check_seeds(agent, batches, program):
    """Seeds 4 and 7 on a mesh (2, 2, 2) against each alone; `program` is the update on one device."""
    layout = layout_of((2, 2, 2), seeds=2)
    together = Learner(agent, [4, 7], num_envs=2, batch_size=BATCH, layout=layout)
    pairs = [[batches[index], batches[(index + 1) % 4]] for index in range(4)]
    placed = [
        parallel.join([layout.seed_row(s).put(b) for s, b in enumerate(pair)], layout) for pair in pairs
    ]
    compiled(together, placed[0])
    state, losses = train(together, placed, UPDATES)
    report = {}
    for index, seed in enumerate([4, 7]):
        alone = Learner(agent, seed, num_envs=2, batch_size=BATCH, layout=layout_of((1, 1, 1)))
        placed = [alone.layout.put(pair[index]) for pair in pairs]
        alone.set_update(program)
        want_state, want_losses = train(alone, placed, UPDATES)
        pick = lambda tree, index=index: jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)
        report[str(seed)] = {
            "update": distance(pick(state), want_state),
            "losses": max(distance(pick(got), want) for got, want in zip(losses, want_losses)),
        }
    return report


def layout_of(sizes, seeds=0):
    return parallel.make_layout(ParallelConfig(*sizes, fsdp_threshold=64), batch_size=BATCH, seeds=seeds)


def check_random_bits():
    """The same bits on one device, on any mesh and under vmap."""
    draw = lambda key: jax.random.normal(key, (8, 16))
    keys = np.stack([np.asarray(jax.random.PRNGKey(seed)) for seed in (4, 7)])
    want = np.stack([np.asarray(draw(key)) for key in keys])
    split = jax.jit(draw, out_shardings=layout_of((1, 4, 2)).rows)
    seeds = jax.jit(jax.vmap(draw), out_shardings=layout_of((2, 4, 1), seeds=2).rows)(keys)
    return bool((np.asarray(split(keys[0])) == want[0]).all() and (np.asarray(seeds) == want).all())


if __name__ == "__main__":
    agent, batches = make_agent(sys.argv[1])
    single = Learner(agent, 0, num_envs=2, batch_size=BATCH, layout=layout_of((1, 1, 1)))
    program = compiled(single, single.layout.put(batches[0]))
    report = {
        "bits": check_random_bits(),
        "seeds": check_seeds(agent, batches, program),
        **check_meshes(agent, batches, program),
    }
    json.dump(report, sys.stdout)
