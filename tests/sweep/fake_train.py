"""Stands in for `dreamworld train` where a test is about the sweep: a real process with a real run directory.

Takes the same command line. FAKE_TRAIN names what goes wrong, {"TASK/seedN": "crash|kill|hang|usage|always"}:
crash, kill and hang happen in the first attempt, half way; always in every one.
"""

import json
import os
import signal
import sys
import time

from dreamworld import cli
from dreamworld.logging.rundir import RunDir

LINES = 10


def main() -> int:
    config = cli.parse(sys.argv[1:])
    rundir = RunDir.of(config)
    rundir.create()
    name = "/".join(rundir.path.parts[-2:])
    plan = json.loads(os.environ.get("FAKE_TRAIN", "{}"))
    fault = plan.get(name, "")
    if fault == "usage":
        print("error: --task nonsense: no such task", file=sys.stderr)
        return 2
    first = not rundir.exists()
    rundir.begin(config)
    steps = int(config.run.steps)
    begin = rundir.read_status().get("step") or 0
    fields = {"task": config.task, "seed": config.seed, "steps": steps, "fps": 100.0, "eta_s": 1.0}
    rundir.write_status("running", step=begin, updates=0, **fields)
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    if fault == "always" and begin >= steps // 2:
        rundir.write_status("failed", step=begin, error="RuntimeError: planned crash", **fields)
        raise RuntimeError("planned crash")
    (rundir.path / "cores").write_text(json.dumps(sorted(os.sched_getaffinity(0))))
    for step in range(begin + steps // LINES, steps + 1, steps // LINES):
        if stopped:
            rundir.write_status("preempted", step=step, updates=0, **fields)
            return 75
        value = config.seed + step * config.run.train_ratio / 256
        row = {"step": step, "frames": step * config.env.repeat, "time": time.time()}
        with rundir.episodes.open("a") as file:
            file.write(json.dumps({**row, "env": 0, "return": value, "length": 10}) + "\n")
        with rundir.metrics.open("a") as file:
            file.write(json.dumps({**row, "updates": step // 4}) + "\n")
        rundir.write_status("running", step=step, updates=step // 4, **{**fields, "return": value})
        if step >= steps // 2 and (first or fault == "always"):
            if fault in ("crash", "always"):
                rundir.write_status("failed", step=step, error="RuntimeError: planned crash", **fields)
                raise RuntimeError("planned crash")
            if fault == "kill":
                print(f"{step}/{steps} steps", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "hang":
                while not stopped:
                    time.sleep(0.05)
    rundir.write_status("finished", step=steps, updates=steps // 4, **{**fields, "return": value})
    return 0


if __name__ == "__main__":
    sys.exit(main())
