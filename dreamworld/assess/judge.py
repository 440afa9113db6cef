"""One world model, judged on segments: all metrics on one sheet, and what the model is."""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple

import jax
import numpy as np

from dreamworld.assess import (
    actions,
    clips,
    coherence,
    decisions,
    dreams,
    drift,
    inverse,
    levels,
    loops,
    objects,
    ranking,
    reality,
    returns,
    reward,
    timing,
)
from dreamworld.assess.dreams import Dreaming
from dreamworld.assess.ground import Ground
from dreamworld.assess.host import HostGround
from dreamworld.assess.scene import scenes
from dreamworld.assess.segments import Segments, donors
from dreamworld.assess.sheet import Sheet, make_sheet
from dreamworld.contract import Agent, Simulator
from dreamworld.types import Params

VERSION = 1  # of the schema, docs/assess.md


class World(NamedTuple):
    """What is judged."""

    name: str
    simulator: Simulator
    params: Params  # what acting needs: {"world": ..., "behaviour": ...}
    agent: Agent | None = None  # None: nothing acts in it
    policies: tuple[ranking.Policy, ...] = ()  # of other checkpoints, which are ranked in this world
    about: dict[str, Any] = {}  # noqa: RUF012 - of a record: checkpoint and the like, for the file


class Judged(NamedTuple):
    """What came of it."""

    name: str
    sheet: Sheet
    about: dict[str, Any]  # checkpoint, segments, model, cost
    found: dict[str, np.ndarray]  # measurements, [N, H, ...]
    fan: dict[str, np.ndarray]  # what was dreamt of it, by observation key [M, A, K, *shape]
    card: list[levels.Level]

    def plain(self) -> dict[str, Any]:
        """The file `assess/step-N.json`."""
        card = [level._asdict() for level in self.card]
        return {"version": VERSION, "name": self.name, **self.about, **self.sheet.plain(), "levels": card}


def judge(
    world: World,
    segments: Segments,
    *,
    samples: int,
    ground: Ground | HostGround | None = None,
    seed: int = 0,
) -> Judged:
    """Judges a world; equal seeds give equal numbers, up to the order of sums."""
    simulator, params = world.simulator, world.params["world"]
    found_scenes, others = scenes(segments), donors(segments)
    truth = ground if isinstance(ground, Ground) else None
    locate = objects.locator(truth)
    dreaming = Dreaming(simulator, segments.obs_space, found_scenes, segments.context, samples, locate)
    keys = jax.random.split(jax.random.PRNGKey(seed), 7)
    found = dreams.measure(dreaming, params, segments, others, keys[0])
    sheet = make_sheet(segments.episode, seed=seed)
    drift.add_drift(sheet, segments, found, found_scenes)
    reality.add_reality(sheet, segments, found, ground, found_scenes, jax.random.fold_in(keys[0], 1))
    reward.add_reward(sheet, segments, found)
    reward.add_cont(sheet, segments, found)
    actions.add_shuffle(sheet, segments, found, others)
    fan = decisions.add_counterfactuals(sheet, dreaming, params, segments, keys[1])
    decisions.add_decisions(sheet, dreaming, params, segments, keys[2])
    coherence.add_coherence(sheet, segments, found)
    loops.add_loops(sheet, dreaming, params, segments, jax.random.fold_in(keys[1], 1))
    coherence.add_realism(sheet, segments, found, keys[3])
    inverse.add_inverse(sheet, segments, found, keys[6])
    objects.add_objects(sheet, segments, found, objects.make_objects(truth, segments) if truth else None)
    clips.add_surprise(sheet, simulator, params, segments, truth, keys[4])
    returns.add_returns(sheet, world.agent, world.params, dreaming, segments, ground, keys[5])
    if world.policies:
        rank_key = jax.random.fold_in(keys[5], 1)
        ranking.add_ranking(sheet, world.policies, world.params, dreaming, segments, ground, rank_key)
    about = world.about | {
        "segments": describe_segments(segments, samples),
        "parameters": int(sum(np.size(leaf) for leaf in jax.tree.leaves(params))),
        "probed": simulator.probed,
        "step_s": timing.step_times(simulator, params, segments.act_space),
        "device": jax.devices()[0].device_kind,
        "date": datetime.date.today().isoformat(),
    }
    return Judged(world.name, sheet, about, found, fan, levels.levels(sheet))


def describe_segments(segments: Segments, samples: int) -> dict[str, Any]:
    """N, C, H, S and the hash, as JSON values."""
    return {
        "hash": segments.hash,
        "count": len(segments),
        "episodes": segments.episodes,
        "context": segments.context,
        "horizon": segments.horizon,
        "samples": samples,
        "task": segments.task,
        "policies": segments.policies,
    }
