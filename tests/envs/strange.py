"""What a module may hold next to environments, for tests that look it up by name."""

import functools
import operator
import os

import numpy as np
import toys

SNEAKY = functools.partial(functools.partial(os.mkdir, "/tmp/never"))
CALLER = operator.methodcaller("mkdir")
ADD = np.add


def make_counter(length=3):
    return toys.Counter(length)


class Maker:
    def __call__(self, length=3):
        return toys.Counter(length)

    def make(self):
        return toys.Counter()

    @classmethod
    def build(cls):
        return toys.Counter()


@functools.cache
def cached():
    return toys.Counter()
