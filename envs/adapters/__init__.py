"""One adapter per kind of environment, each to the contract of `dreamworld.envs.base`."""
