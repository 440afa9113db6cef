"""A small classifier, trained in a second on small pictures: what can be told by looking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dreamworld.types import Array, Key

UNITS, UPDATES, LEARNING_RATE, BATCH = 64, 300, 1e-3, 256


def fit(rows: np.ndarray, label: np.ndarray, classes: int, key: Key) -> Callable[[np.ndarray], np.ndarray]:
    """A function from rows [..., P] to their likeliest class [...], by one hidden layer trained on rows [M, P]."""
    given, wanted = jnp.asarray(rows, jnp.float32), jnp.asarray(label, jnp.int32)
    mean, spread = given.mean(0, keepdims=True), given.std(0, keepdims=True) + 1e-3
    params = _train((given - mean) / spread, wanted, classes, key)
    tell = jax.jit(lambda x: _logits(params, (x - mean) / spread).argmax(-1))

    def likeliest(x: np.ndarray) -> np.ndarray:
        flat = jnp.asarray(x.reshape(-1, x.shape[-1]), jnp.float32)
        return np.asarray(tell(flat)).reshape(x.shape[:-1])

    return likeliest


def _logits(params: Any, x: Array) -> Array:
    return jax.nn.relu(x @ params["in"] + params["bias"][None]) @ params["out"]


def _train(rows: Array, label: Array, classes: int, key: Key) -> Any:
    optimizer = optax.adamw(LEARNING_RATE, weight_decay=1e-2)
    in_key, out_key, key = jax.random.split(key, 3)
    params = {
        "in": jax.random.normal(in_key, (rows.shape[1], UNITS)) / np.sqrt(rows.shape[1]),
        "bias": jnp.zeros(UNITS),
        "out": jax.random.normal(out_key, (UNITS, classes)) / np.sqrt(UNITS),
    }

    def loss(params: Any, index: Array) -> Array:
        logits = _logits(params, rows[index])
        return optax.softmax_cross_entropy_with_integer_labels(logits, label[index]).mean()

    def update(carry: Any, key: Key) -> tuple[Any, None]:
        params, state = carry
        index = jax.random.randint(key, (BATCH,), 0, len(label))
        changes, state = optimizer.update(jax.grad(loss)(params, index), state, params)
        return (optax.apply_updates(params, changes), state), None

    start = (params, optimizer.init(params))
    run = jax.jit(lambda carry, keys: jax.lax.scan(update, carry, keys))
    return run(start, jax.random.split(key, UPDATES))[0][0]
