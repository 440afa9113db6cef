"""Measures what the page on physics states: `python docs/concepts/measure.py speed` or `drift`.

`speed` compares steps of jax_balls as a physics engine with steps of a DreamerV3 that dreams of it: processor time, of
one core. `drift` compares the engine with itself, begun a little beside the true state.
"""

import argparse
import os
import time

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import cli
from dreamworld.envs.jax import make_jax_env
from dreamworld.sessions.pieces import build_agent

BATCHES = (1, 1024)
ROWS = 4096  # of a measured rollout: its steps times its batch
STEPS = 64  # of it, at most
BALLS = (1, 2, 3)
OFF = (1e-4, 1e-3, 1e-2)  # box widths: 0.0032, 0.032 and 0.32 of a pixel of 32
SIZE = 32  # of the picture: distances are printed in its pixels
AFTER = (10, 25, 50, 100)


def engine(obs, batch):
    """A step of `batch` engines under random actions: (state, key) -> (state, a number that needs all of it)."""
    env = make_jax_env("jax_balls", obs=obs)

    def step(state, key):
        action = {"action": jax.random.randint(key, (batch,), 0, 5)}
        state, row = jax.vmap(env.step)(state, action, jax.random.split(key, batch))
        return state, row.reward.sum() + sum(value.sum() for value in row.obs.values())

    return step, jax.vmap(env.reset)(jax.random.split(jax.random.PRNGKey(0), batch))[0]


def dream(agent, world, decoded, batch):
    """A step of `batch` dreams: states, rewards and ends, and pictures if they are `decoded`."""
    simulator = agent.simulator

    def step(state, key):
        action = {"action": jax.random.randint(key, (batch,), 0, 5)}
        state = simulator.imagine(world, state, action, key)
        feature = simulator.feature(world, state)
        told = simulator.predict(world, feature)
        found = told.reward.sum() + told.cont.sum()
        if decoded:
            found += sum(value.sum() for value in simulator.decode(world, feature).values())
        return state, found

    return step, simulator.initial(world, batch)


def seconds(step, start, batch, repeats):
    """Processor seconds of a step of one of the batch, the least of some rollouts."""
    steps = max(1, min(STEPS, ROWS // batch))
    rollout = jax.jit(lambda state, key: jax.lax.scan(step, state, jax.random.split(key, steps))[1])
    found = []
    for number in range(repeats + 1):  # the first one compiles
        began = time.process_time()
        jax.block_until_ready(rollout(start, jax.random.PRNGKey(number)))
        found.append(time.process_time() - began)
    return min(found[1:]) / (steps * batch)


def speed(sizes=("size1m",), batches=BATCHES, repeats=5):
    """(what, parameters, {batch: seconds}) of engine and dreams."""
    rows = []
    for name, obs in (("engine, states", "vector"), ("engine, pictures", "image")):
        rows.append((name, 0, {b: seconds(*engine(obs, b), b, repeats) for b in batches}))
    for size in sizes:
        agent = build_agent(cli.parse(["--configs", size, "--task", "jax_balls"]))
        params = jax.jit(agent.init)(jax.random.PRNGKey(0)).params
        for name, decoded in (("states", False), ("pictures", True)):
            took = {b: seconds(*dream(agent, params["world"], decoded, b), b, repeats) for b in batches}
            rows.append((f"dream of {size}, {name}", sum(x.size for x in jax.tree.leaves(params)), took))
    return rows


def drift(balls, episodes=512, off=OFF, after=AFTER):
    """Distances [len(off), len(after), episodes * balls] of engines that begin `off` beside the true place of ball 0.

    Both get the same random actions. Box widths; as the engine is exact, all of it comes from the beginning.
    """
    env = make_jax_env("jax_balls", obs="vector", n=balls)

    @jax.jit
    def run(key):
        start_key, act_key, angle_key = jax.random.split(key, 3)
        true, _ = jax.vmap(env.reset)(jax.random.split(start_key, episodes))
        angle = jax.random.uniform(angle_key, (episodes,), maxval=2 * jnp.pi)
        aside = jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
        place = true.position[None].repeat(len(off) + 1, 0)
        place = place.at[1:, :, 0].add(jnp.array(off)[:, None, None] * aside[None])
        many = true._replace(
            position=place,
            velocity=true.velocity[None].repeat(len(off) + 1, 0),
            time=true.time[None].repeat(len(off) + 1, 0),
        )

        def step(state, key):
            action = jax.random.randint(key, (episodes,), 0, 5)
            one = lambda state, action: env.step(state, {"action": action}, key)[0]
            state = jax.vmap(jax.vmap(one), (0, None))(state, action)
            return state, state.position

        return jax.lax.scan(step, many, jax.random.split(act_key, max(after)))[1]

    places = np.asarray(run(jax.random.PRNGKey(0)))[
        np.array(after) - 1
    ]  # [after, 1 + off, episodes, balls, 2]
    apart = np.linalg.norm(places[:, 1:] - places[:, :1], axis=-1)
    return apart.swapaxes(0, 1).reshape((len(off), len(after), -1))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("speed", "drift"))
    what = parser.parse_args().what
    if what == "speed":
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print("| | parameters |" + "".join(f" {batch} at once |" for batch in BATCHES))
        for name, count, took in speed():
            print(
                f"| {name} | {count:,} |" + "".join(f" {1e6 * took[b]:.3g} µs |" for b in BATCHES), flush=True
            )
        return
    print("| balls | begun off by |" + "".join(f" after {step} |" for step in AFTER))
    for balls in BALLS:
        for off, rows in zip(OFF, drift(balls)):
            cells = "".join(f" {SIZE * np.median(r):.2g} ({SIZE * np.quantile(r, 0.9):.2g}) |" for r in rows)
            print(f"| {balls} | {SIZE * off:.2g} |{cells}")


if __name__ == "__main__":
    main()
