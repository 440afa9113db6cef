"""One process with 4 CPU devices: fused seeds on them. Prints a JSON object for test_fused_seeds.py."""

import contextlib
import io
import json
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import jax

jax.config.update("jax_num_cpu_devices", 4)

import numpy as np  # noqa: E402

from dreamworld import cli  # noqa: E402
from dreamworld.logging.progress import Progress  # noqa: E402
from dreamworld.sessions.build import opened  # noqa: E402
from dreamworld.sessions.job import Job  # noqa: E402
from dreamworld.training.rounds import Round  # noqa: E402
from dreamworld.training.stops import Stop  # noqa: E402

WORDS = ["--configs", "debug", "--task", "jax_catch", "--run.mode", "fused", "--eval.every", "0"]
WORDS += [
    "--run.report_every",
    "0",
    "--run.log_every",
    "8",
    "--run.steps",
    "96",
    "--logger.tensorboard",
    "False",
]


ROUND = Round("policy", 1, (("update", 2),))


@contextlib.contextmanager
def open_seeds(folder, seeds, devices) -> Iterator[Any]:
    config = cli.parse([*WORDS, "--logdir", str(folder), "--seeds", seeds, "--parallel.seed", str(devices)])
    with opened(Job.of(config), Progress(1, show=False, file=io.StringIO())) as session:
        yield session.runner


@contextlib.contextmanager
def open_alone(folder, seed) -> Iterator[Any]:
    config = cli.parse([*WORDS, "--logdir", str(folder), "--seed", str(seed)])
    with opened(Job.of(config), Progress(1, show=False, file=io.StringIO())) as session:
        yield session.loops[0]


def distance(a, b):
    """Largest difference of two pytrees, absolute below 1 and relative above."""
    scaled = lambda x, y: np.max(
        np.abs(np.asarray(x, np.float64) - y) / np.maximum(1.0, np.abs(y)), initial=0
    )
    return float(max(jax.tree.leaves(jax.tree.map(scaled, a, b))))


def compare(state, want):
    """What is drawn must be equal, what is computed close."""
    rows = lambda tree: {k: v for k, v in tree.replay.rows.items() if not k.startswith("latent/")}
    return {
        "rows": distance(rows(state), rows(want)),
        "latents": distance(state.replay.rows, want.replay.rows),
        "train": distance(state.train, want.train),
        "counts": [int(state.iteration), int(state.replay.count), int(state.train.step)],
        "same_tree": jax.tree.map(np.shape, state) == jax.tree.map(np.shape, want),
    }


def main(folder):
    report = {}
    chunks = 3
    with open_seeds(folder / "four", "0:4", 4) as group:
        for _ in range(chunks):
            group.chunks.iterate()
        if group.chunks.learner.running:
            group.chunks.learner.finish()
        learner = group.chunks.learner
        leaves = jax.tree.leaves(learner.snapshot().replay.rows)
        report["devices"] = [len(leaf.sharding.device_set) for leaf in leaves]
        report["shards"] = [leaf.addressable_shards[0].data.shape[0] for leaf in leaves]
        text = learner._train.lower(learner.snapshot(), learner._root, ROUND, 1).compile().as_text()
        report["collectives"] = re.findall(r"(all-reduce|all-gather|all-to-all|collective-permute)", text)
        states = [jax.device_get(loop.learner.snapshot()) for loop in group.loops]
        group.run(Stop(30))
    with open_alone(folder / "alone", 2) as loop:
        loop.chunks.fill()
        while loop.counters.iteration < states[2].iteration:
            loop.learner.start(ROUND, 4)
            loop.learner.finish()
            loop.counters.iteration += 4
        report["2"] = compare(states[2], jax.device_get(loop.learner.snapshot()))
    # From four devices to two, and to one seed alone: to the bit.
    with open_seeds(folder / "four", "0:4", 2) as group:
        states = [jax.device_get(loop.learner.snapshot()) for loop in group.loops]
    for seed in (0, 3):
        with open_alone(folder / "four" / f"seed{seed}", seed) as loop:
            report[f"restored{seed}"] = distance(states[seed], jax.device_get(loop.learner.snapshot()))
            report[f"step{seed}"] = loop.counters.step
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
