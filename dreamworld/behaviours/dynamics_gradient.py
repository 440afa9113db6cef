"""Actor-critic whose actor learns by gradients through imagined dynamics (Dreamer, arXiv:1912.01603, algorithm 1)."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from dreamworld import dists, layers, math, nets, rollout
from dreamworld.options import DynamicsGradientConfig
from dreamworld.types import Array, Key, Mode, Params, Spaces, Tree

sg = jax.lax.stop_gradient


class Dreamt(Protocol):
    """What it sees of a world model, whose parameters are given; the first argument of each is a batch of states."""

    def imagine(self, state: Tree, action: dict[str, Array], key: Key, /) -> Tree: ...
    def feature(self, state: Tree, /) -> Array: ...
    def reward(self, feature: Array, /) -> Array: ...
    def cont(self, feature: Array, /) -> Array:
        """Chance of going on after a state, times the discount, [...]."""
        ...


class Imagined(NamedTuple):
    """Losses of every start, and what is logged."""

    actor: Array  # [N]
    value: Array  # [N]
    metrics: dict[str, Array]


@dataclasses.dataclass(frozen=True)
class DynamicsGradient:
    """A tanh-normal actor over all continuous actions together, and a value without a target network."""

    config: DynamicsGradientConfig
    act_space: Spaces

    @property
    def actor(self) -> layers.Layers:
        size = sum(space.size for space in self.act_space.values())
        return layers.Layers(self.config.actor_layers, self.config.units, 2 * size, "elu")

    @property
    def critic(self) -> layers.Layers:
        return layers.Layers(self.config.value_layers, self.config.units, 1, "elu")

    def init(self, feature: Array, key: Key) -> Params:
        """Parameters {actor, value} for features [..., F]."""
        actor_key, value_key = jax.random.split(key)
        return {
            "actor": self.actor.init(actor_key, feature)["params"],
            "value": self.critic.init(value_key, feature)["params"],
        }

    def policy(self, params: Params, feature: Array) -> dists.TanhNormal:
        """Over all actions as one vector, for features [..., F].

        The mean is 5 tanh(x / 5), the standard deviation softplus(x + b) + 1e-4, with b such that it begins near 5.
        """
        config = self.config
        mean, raw = jnp.split(nets.apply(self.actor, params["actor"], feature), 2, -1)
        begin = jnp.log(jnp.expm1(config.init_std))
        std = jax.nn.softplus(raw + begin) + config.min_std
        return dists.TanhNormal(config.mean_scale * jnp.tanh(mean / config.mean_scale), std)

    def value(self, params: Params, feature: Array) -> Array:
        """The return that is expected from features [..., F] on, [...]."""
        return nets.apply(self.critic, params["value"], feature)[..., 0]

    def choose(self, params: Params, feature: Array, key: Key, *, mode: Mode = "sample") -> dict[str, Array]:
        """Actions {key: [..., *shape]} within -1 and 1; greedy ones are the likeliest of 100 samples."""
        policy = self.policy(params, feature)
        vector = policy.likeliest(key) if mode == "greedy" else policy.sample(key)
        found, begin = {}, 0
        for name, space in sorted(self.act_space.items()):
            part = vector[..., begin : begin + space.size]
            found[name], begin = part.reshape((*part.shape[:-1], *space.shape)), begin + space.size
        return found

    def loss(self, params: Params, world: Dreamt, start: Tree, key: Key) -> Imagined:
        """Losses of dreams of `imag_length` steps from states [N, ...].

        The gradient of `actor` goes through values, rewards and dynamics, and must reach the actor's parameters
        alone: `world` is to be made of parameters whose gradients are stopped.
        """
        frozen = sg(params["value"])

        def look(state: Tree, key: Key) -> tuple[dict[str, Array], Array]:
            feature = world.feature(state)
            return self.choose(params, sg(feature), key), feature

        outs, last = rollout.imagine(world.imagine, look, sg(start), self.config.imag_length, key)
        features = rollout.append(outs[1:], last)  # of the imagined states alone, [H, N, F]
        reward, cont = world.reward(features), world.cont(features)
        returns, weight = targets(reward, cont, self.value({"value": frozen}, features), self.config.lam)
        value = self.value(params, sg(features[:-1]))
        critic = weight * dists.unit_normal_nll(value, returns, 0)
        metrics = {
            "imagined_return": returns.mean(),
            "imagined_reward": reward.mean(),
            "value": value.mean(),
            "continue": cont.mean(),
        }
        return Imagined(-(weight * returns).mean(0), critic.mean(0), sg(metrics))


def targets(reward: Array, cont: Array, value: Array, lam: float) -> tuple[Array, Array]:
    """Lambda-returns of all imagined states but the last, and their weights, without gradients; [H-1, N] of [H, N].

    R[t] = r[t] + c[t] ((1 - lam) V[t+1] + lam R[t+1]), R[H-1] = V[H-1]: the reward is that of the state itself, as
    the first two Dreamers have it. The weight of t is the product of c before it (arXiv:1912.01603, eq. 6).
    """
    ahead = lambda x: jnp.concatenate([x[:1], x[:-1]], 0)  # `lambda_return` takes the row after t
    returns = math.lambda_return(ahead(reward), ahead(cont), value, value[-1], lam)
    weight = jnp.cumprod(jnp.concatenate([jnp.ones_like(cont[:1]), cont[:-2]], 0), 0)
    return returns, sg(weight)
