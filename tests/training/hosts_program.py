"""One of several processes: restores what one process saved, does one update on its rows, saves. For test_hosts.py."""

import pathlib
import sys

import jax
import numpy as np

from dreamworld import cli, parallel
from dreamworld.benchmarks.update import Flags, make_synthetic_agent, synthetic_batch
from dreamworld.config import ParallelConfig
from dreamworld.training import hosts
from dreamworld.training.checkpoint import Checkpointer
from dreamworld.training.learner import Learner

BATCH, LENGTH = 4, 5


def make_learner(devices=None):
    """The same agent in every process, over all of their devices."""
    words = ["--configs", "debug", "--run.batch_size", str(BATCH), "--run.compile_cache", ""]
    words += ["--agent.behaviour.imag_length", "2", "--agent.optim.warmup", "0"]
    agent = make_synthetic_agent(cli.parse(words), Flags(obs="vector:3", act="discrete:2"))
    layout = parallel.make_layout(ParallelConfig(), batch_size=BATCH, devices=devices)
    return Learner(agent, 3, num_envs=2, batch_size=BATCH, layout=layout), synthetic_batch(
        agent, BATCH, LENGTH
    )


def main(folder, port, count, index):
    config = ParallelConfig(
        coordinator=f"127.0.0.1:{port}", processes=count, process_id=index, heartbeat_s=20
    )
    team = hosts.connect(config)
    learner, batch = make_learner()
    with Checkpointer(folder / "one") as checkpointer:
        learner.load(checkpointer.restore(None, learner.snapshot()).agent)
    own = slice(index * team.share(BATCH), (index + 1) * team.share(BATCH))
    output = learner.update(learner.layout.put(jax.tree.map(lambda leaf: leaf[own], batch)))
    np.savez(
        folder / f"process_{index}.npz",
        deter=np.asarray(output.writeback["latent/deter"]),
        loss=np.asarray(output.metrics["loss/total"]),
        agreed=[team.any(index == 1), team.all(index == 1), team.any(False), team.all(True)],
        lagging=[team.any_before(flag) for flag in (index == 0, False, False)],
    )
    with Checkpointer(folder / "many") as checkpointer:
        checkpointer.save(1, learner.snapshot(), {"process": index}, {"process": index}, block=True)
        assert checkpointer.problem is None, checkpointer.problem
    (folder / "file").touch()
    with Checkpointer(folder / "file" / "checkpoints") as checkpointer:
        checkpointer.save(1, learner.snapshot(), {}, {}, block=True)
        (folder / f"problem_{index}.txt").write_text(checkpointer.take_problem() or "")
    assert team.any(index == 0) and not team.any(False)  # they are still in step
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
