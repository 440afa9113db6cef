"""What a benchmark ran on, and what it took of it: processors, CPU time and memory."""

from __future__ import annotations

import platform

from dreamworld import system, words


def cpu_seconds() -> float:
    """CPU time of this process and its descendants so far."""
    import psutil

    total = 0.0
    this = psutil.Process()
    for process in [this, *this.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def hardware() -> str:
    """The machine in one line."""
    cores = len(system.cores())
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            model = next(
                (line.split(":")[1].strip() for line in file if line.startswith("model name")), model
            )
    except OSError:
        pass
    return f"{words.count(cores or 1, 'core')} of {model}, Python {platform.python_version()}"


def resident_mb() -> float:
    import psutil

    this = psutil.Process()
    return sum(process.memory_info().rss for process in [this, *this.children(recursive=True)]) / 1e6
