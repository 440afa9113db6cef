"""A probe decoder: shows what the features of a model that can't decode tell of its observations.

A small decoder learns from features without a gradient into them, in a phase of its own: the agent's own training is
the same to the bit with it and without it. Its pictures show what can be read from a state, which is less than what
the model knows, and more than what it was trained to keep.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dreamworld import dists, dream, nets, rollout
from dreamworld.contract import Agent, Phase, Simulator, Stage, Update, Window, modules, no_carry
from dreamworld.errors import UserError
from dreamworld.models.observations import Encoder, ObservationDecoder
from dreamworld.options import EncoderConfig
from dreamworld.training.step import LossOut, make_update
from dreamworld.types import Array, Batch, Carry, Key, Mode, Output, Params, Space, Spaces, TrainState

NAME = "probe"  # of the module and of the phase
STREAM = 0x70726F62  # of random numbers, beside those of the agent
LEARNING_RATE = 1e-3
MULTS = (1, 2, 4, 4)  # channels of images of at least 32 pixels, in units of `SIZES.depth`
SIZES = EncoderConfig(depth=16, layers=2, units=256)


class ProbedState(NamedTuple):
    """The optimiser's state of an agent with a probe."""

    agent: Any  # of the agent's own optimisers
    probe: Any
    updates: Array  # int32, of the probe


@dataclasses.dataclass(frozen=True)
class Probe:
    """Feature [..., F] -> observations: all vectors by one network, each image by one of its own.

    Images are decoded at the next size that can be doubled from a small grid, and cut.
    """

    spaces: Spaces

    @property
    def keys(self) -> dict[str, list[str]]:
        """The observation keys of each network; keys without elements have none."""
        shown = sorted(key for key, space in self.spaces.items() if space.size)
        images = [key for key in shown if self.spaces[key].is_image]
        vectors = [key for key in shown if key not in images]
        return {f"image{i}": [key] for i, key in enumerate(images)} | ({"vector": vectors} if vectors else {})

    def decoder(self, keys: list[str]) -> ObservationDecoder:
        """The network of some keys."""
        spaces = {key: _padded(self.spaces[key]) for key in keys}
        kind = "image" if spaces[keys[0]].is_image else "vector"
        mults = MULTS[: _stages(spaces[keys[0]])] if kind == "image" else MULTS
        config = dataclasses.replace(SIZES, mults=mults)
        return ObservationDecoder(Encoder(config, spaces, dict.fromkeys(keys, kind), jnp.float32))

    def init(self, key: Key, feature: Array) -> Params:
        """Parameters {network: ...} for features [1, F]."""
        seeds = jax.random.split(key, len(self.keys))
        return {
            name: self.decoder(keys).init(seed, feature)
            for seed, (name, keys) in zip(seeds, self.keys.items())
        }

    def distributions(self, params: Params, feature: Array) -> dict[str, dists.Prediction]:
        """One of every key; of images at the size at which they are decoded."""
        found: dict[str, dists.Prediction] = {}
        for name, keys in self.keys.items():
            found |= self.decoder(keys)(params[name], feature.astype(jnp.float32))
        return found

    def decode(self, params: Params, feature: Array) -> dict[str, Array]:
        """Expected observations {key: [..., *shape]}, float32: images in 0..1."""
        found = {}
        for key, dist in self.distributions(params, feature).items():
            value, space = dist.mean().astype(jnp.float32), self.spaces[key]
            found[key] = value[..., : space.shape[0], : space.shape[1], :] if space.is_image else value
        return found

    def losses(self, params: Params, feature: Array, obs: dict[str, Array]) -> dict[str, Array]:
        """Squared errors per element, of vectors after symlog, of classes their nats; {key: [...]}."""
        found = {}
        for key, dist in self.distributions(params, feature).items():
            space, target = self.spaces[key], nets.target(self.spaces[key], obs[key])
            if space.is_image:
                sides = zip(_padded(space).shape, space.shape)
                edges = [(0, 0)] * (target.ndim - 3) + [(0, wide - side) for wide, side in sides]
                target = jnp.pad(target, edges)
            found[key] = dist.loss(target) / space.size
        return found


def with_probe(agent: Agent, name: str = "this agent") -> Agent:
    """The agent, whose simulator decodes by a probe that is trained in a phase of its own.

    Every stage with a phase that reads batches gets such a phase, as often and as long as the first of them. UserError
    for an agent whose simulator decodes itself, and for one without a simulator.
    """
    simulator = agent.simulator
    if simulator is None:
        raise UserError(f"--agent.probe True: {name} has no simulator whose features could be decoded")
    if simulator.decode is not None:
        raise UserError(f"--agent.probe True: {name} decodes its observations itself; leave the probe out")
    probe = Probe(agent.obs_space)
    if not probe.keys:
        raise UserError(f"--agent.probe True: the environment of {name} has no observation to decode")

    def init(key: Key) -> TrainState:
        state = agent.init(key)
        if NAME in modules(state.params):
            raise ValueError(f"{name} has a module {NAME!r} of its own; give it another name")
        world = agent.acting(state)["world"]
        feature = simulator.feature(world, simulator.initial(world, 1))
        own = probe.init(jax.random.fold_in(key, STREAM), feature)
        moments = optimizer.init(_tree(own))
        return _join(state, own, ProbedState(state.opt_state, moments, jnp.int32(0)))

    def acting(state: TrainState) -> Params:
        params = agent.acting(_part(state))
        return params | {"world": params["world"] | {NAME: state.params["world"][NAME]}}

    def act(
        params: Params, carry: Carry, obs: dict[str, Array], key: Key, *, mode: Mode = "sample"
    ) -> tuple[Carry, dict[str, Array], dict[str, Array]]:
        return agent.act(_without(params), carry, obs, key, mode=mode)

    value, choose, optimizer = agent.value, agent.choose, optax.adam(LEARNING_RATE)
    several = sum(_watched(stage) is not None for stage in agent.stages) > 1
    update = lambda window: make_probe_update(agent, simulator, probe, optimizer, window)
    return agent._replace(
        init=init,
        acting=acting,
        initial=lambda params, batch: agent.initial(_without(params), batch),
        act=act,
        stages=tuple(_with_phase(stage, update, several) for stage in agent.stages),
        simulator=probed(simulator, probe),
        value=value and (lambda params, feature: value(_without(params), feature)),
        choose=choose and (lambda params, *args, **mode: choose(_without(params), *args, **mode)),
    )


def probed(simulator: Simulator, probe: Probe) -> Simulator:
    """A simulator whose parameters hold those of a probe, too, by which it decodes."""
    own = lambda params: {name: tree for name, tree in params.items() if name != NAME}

    def over(function: Any) -> Any:
        return function and (lambda params, *args: function(own(params), *args))

    functions = {
        field: over(getattr(simulator, field))
        for field in Simulator._fields
        if field not in ("decode", "probed", "act_space")
    }
    decode = lambda params, feature: probe.decode(params[NAME], feature)
    return simulator._replace(**functions, decode=decode, probed=True)


def make_probe_update(
    agent: Agent, simulator: Simulator, probe: Probe, optimizer: optax.GradientTransformation, window: Window
) -> Update:
    """Updates of the probe alone; the agent's step does not count them."""

    def loss(
        params: Params, world: Params, stats: Any, carry: Carry, batch: Batch, key: Key
    ) -> tuple[Array, LossOut]:
        _, states = dream.observe_rows(simulator, world, batch, key)
        trained = lambda x: x[:, window.context :]
        features = jax.lax.stop_gradient(trained(simulator.feature(world, states)))
        rows = rollout.trained_rows(batch, window.context)
        losses = probe.losses(params["world"][NAME], features, rows.obs)
        total = jnp.asarray(sum(value.mean() for value in losses.values()))
        return total, LossOut(losses, stats, carry, {}, None, {})

    learn = make_update(loss, optimizer, lambda world, params: world)

    def update(state: TrainState, carry: Carry, batch: Batch) -> tuple[TrainState, Carry, Output]:
        held, own = state.opt_state, state.params["world"][NAME]
        world = agent.acting(_part(state))["world"]
        key = jax.random.fold_in(state.key, STREAM)
        part, carry, output = learn(
            TrainState(_tree(own), held.probe, world, (), held.updates, key), carry, batch
        )
        new = _join(
            _part(state), part.params["world"][NAME], ProbedState(held.agent, part.opt_state, part.step)
        )
        return new, carry, output

    return update


def _with_phase(stage: Stage, make: Callable[[Window], Update], several: bool) -> Stage:
    """The stage, whose phases update the agent's part of the state, with a phase of the probe beside them."""
    watched = _watched(stage)
    phases = tuple(
        dataclasses.replace(phase, update=_beside(phase.update), initial=_initial_beside(phase))
        for phase in stage.phases
    )
    if watched is None or watched.window is None:
        return dataclasses.replace(stage, phases=phases)
    order = "sweep" if watched.window.order == "sweep" else "aside"
    window = dataclasses.replace(watched.window, order=order)
    name = f"{NAME}_{stage.name}" if several else NAME
    own = dataclasses.replace(watched, name=name, window=window, update=make(window), initial=no_carry)
    # First, so that the last phase of the agent stays its own; but last where one phase waits for another to be done.
    last = stage.collect == "none" and (order == "sweep" or watched.at_most is not None)
    return dataclasses.replace(stage, phases=(*phases, own) if last else (own, *phases))


def _watched(stage: Stage) -> Phase | None:
    """The phase whose batches the probe's are like."""
    return next((phase for phase in stage.phases if phase.window is not None), None)


def _beside(update: Update) -> Update:
    """An update of the agent in a train state that holds a probe, which it leaves as it is."""

    def beside(state: TrainState, carry: Carry, batch: Any) -> tuple[TrainState, Carry, Output]:
        new, carry, output = update(_part(state), carry, batch)
        held = state.opt_state._replace(agent=new.opt_state)
        return _join(new, state.params["world"][NAME], held), carry, output

    return beside


def _initial_beside(phase: Phase) -> Callable[[Params, int], Carry]:
    return lambda params, batch: phase.initial(_without(params), batch)


def _part(state: TrainState) -> TrainState:
    """The agent's own train state; the optimiser's state may be left out, as where a run is only played."""
    own = state.opt_state.agent if isinstance(state.opt_state, ProbedState) else state.opt_state
    return state._replace(params=_without(state.params), opt_state=own)


def _join(state: TrainState, own: Params, opt_state: ProbedState) -> TrainState:
    """The agent's train state with the parameters `own` of the probe."""
    params = state.params | {"world": state.params["world"] | {NAME: own}}
    return state._replace(params=params, opt_state=opt_state)


def _without(params: Params) -> Params:
    """Parameters without those of the probe."""
    return params | {"world": {name: tree for name, tree in params["world"].items() if name != NAME}}


def _tree(own: Params) -> Params:
    """The probe's parameters where they lie in those of the agent, by which they are named."""
    return {"world": {NAME: own}}


def _stages(space: Space) -> int:
    """Doublings from the grid of an image to the image: four for 32 pixels and more."""
    return max(1, min(len(MULTS), int(math.log2(max(1, min(space.shape[:2]) // 2)))))


def _padded(space: Space) -> Space:
    """The space of an image at the size at which it is decoded; other spaces as they are."""
    if not space.is_image:
        return space
    multiple = 1 << _stages(space)
    height, width = (-(-side // multiple) * multiple for side in space.shape[:2])
    return dataclasses.replace(space, shape=(height, width, space.shape[2]))
