"""Actor-critic of DreamerV2 (Hafner et al., 2021, arXiv:2010.02193, algorithm 2), which learns in dreams.

Discrete actions learn by REINFORCE, continuous ones by gradients through the dream; a critic with a target network.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from dreamworld import dists, layers, nets, rollout
from dreamworld.behaviours.dynamics_gradient import Dreamt, Imagined, targets
from dreamworld.options import MixedGradientConfig
from dreamworld.types import Array, Key, Mode, Params, Spaces, Tree

sg = jax.lax.stop_gradient


@dataclasses.dataclass(frozen=True)
class MixedGradient:
    """One network for the distributions of all actions: categorical, or a normal cut off at -1 and 1."""

    config: MixedGradientConfig
    act_space: Spaces
    norm: bool = False  # LayerNorm in the hidden layers

    @property
    def actor(self) -> layers.Layers:
        size = sum(self._sizes().values())
        return layers.Layers(self.config.actor_layers, self.config.units, size, "elu", self.norm)

    @property
    def critic(self) -> layers.Layers:
        return layers.Layers(self.config.value_layers, self.config.units, 1, "elu", self.norm)

    def _sizes(self) -> dict[str, int]:
        """Outputs of the actor for each action: a logit of every class, or mean and standard deviation."""
        spaces = sorted(self.act_space.items())
        return {name: math.prod(space.shape) * (nets.class_count(space) or 2) for name, space in spaces}

    def init(self, feature: Array, key: Key) -> Params:
        """Parameters {actor, value} for features [..., F]."""
        actor_key, value_key = jax.random.split(key)
        return {
            "actor": self.actor.init(actor_key, feature)["params"],
            "value": self.critic.init(value_key, feature)["params"],
        }

    def policy(self, params: Params, feature: Array) -> dict[str, dists.Policy]:
        """One distribution per action for features [..., F].

        Of continuous ones the mean is tanh(x), the standard deviation 2 sigmoid(x / 2) + min_std.
        """
        out = nets.apply(self.actor, params["actor"], feature)
        found, begin = {}, 0
        for name, size in self._sizes().items():
            part, begin = out[..., begin : begin + size], begin + size
            space = self.act_space[name]
            rank, shape = len(space.shape), (*feature.shape[:-1], *space.shape)
            if classes := nets.class_count(space):
                found[name] = dists.Categorical(part.reshape((*shape, classes)), rank)
            else:
                mean, raw = (half.reshape(shape) for half in jnp.split(part, 2, -1))
                std = 2 * jax.nn.sigmoid(raw / 2) + self.config.min_std
                found[name] = dists.TruncatedNormal(jnp.tanh(mean), std, rank)
        return found

    def value(self, params: Params, feature: Array) -> Array:
        """The return that is expected from features [..., F] on, [...]."""
        return nets.apply(self.critic, params["value"], feature)[..., 0]

    def choose(self, params: Params, feature: Array, key: Key, *, mode: Mode = "sample") -> dict[str, Array]:
        """Actions {key: [..., *shape]} within their bounds."""
        policy = self.policy(params, feature)
        if mode == "greedy":
            return {name: dist.mode() for name, dist in policy.items()}
        keys = jax.random.split(key, len(policy))
        return {name: dist.sample(own) for (name, dist), own in zip(policy.items(), keys)}

    def loss(
        self, params: Params, slow: Params, world: Dreamt, start: Tree, cont: Array, key: Key
    ) -> Imagined:
        """Losses of dreams of `imag_length` steps from states [N, ...].

        `cont` [N] is the discount after the starts, as it was: 0 where the episode ended. `world` is to be made of
        parameters whose gradients are stopped: that of continuous actions goes through it, and through the target
        network `slow`.
        """

        def look(state: Tree, key: Key) -> tuple[dict[str, Array], tuple[Array, dict[str, Array]]]:
            feature = world.feature(state)
            action = self.choose(params, sg(feature), key)
            return action, (feature, action)

        outs, last = rollout.imagine(world.imagine, look, sg(start), self.config.imag_length, key)
        features, actions = rollout.append(outs, last)  # [H+1, N, ...]; actions are those taken at a state
        reward = world.reward(features)
        ahead = jnp.concatenate([cont[None], world.cont(features)[1:]], 0)
        slow_value = self.value(sg(slow), features)
        returns, weight = targets(reward, ahead, slow_value, self.config.lam)  # [H, N]
        actor, entropy = self._actor(params, sg(features), actions, returns, slow_value)
        value = self.value(params, sg(features[:-1]))
        critic = weight * dists.unit_normal_nll(value, returns, 0)
        metrics = {
            "imagined_return": returns.mean(),
            "imagined_reward": reward.mean(),
            "value": value.mean(),
            "slow_value": slow_value.mean(),
            "actor_entropy": entropy.mean(),
            "continue": ahead.mean(),
        }
        return Imagined(-(weight[:-1] * actor).mean(0), critic.mean(0), sg(metrics))

    def _actor(
        self, params: Params, features: Array, actions: dict[str, Array], returns: Array, slow_value: Array
    ) -> tuple[Array, Array]:
        """What the actor maximises at all states but the last two, and its entropy there; [H-1, N].

        The reward of t + 1 follows the action at state t, so that R[t + 1] judges it; V[t] is the baseline.
        """
        policy = self.policy(params, features[:-2])
        advantage = sg(returns[1:] - slow_value[:-2])
        objective = jnp.zeros_like(advantage)
        discrete = {name for name, space in self.act_space.items() if nets.class_count(space)}
        for name in discrete:
            objective += policy[name].log_prob(sg(actions[name][:-2])) * advantage
        if discrete != set(policy):
            objective += returns[1:]
        entropy = jnp.asarray(sum(dist.entropy() for dist in policy.values()))
        return objective + self.config.entropy * entropy, entropy
