"""`dreamworld train`, but for what FAULTS plans, {"TASK/seedN": "crash|kill"}: in the first attempt, half way."""

import json
import os
import signal
import sys

from dreamworld import cli
from dreamworld.logging.rundir import RunDir
from dreamworld.scripts.train import main
from dreamworld.training.loop import Loop

if __name__ == "__main__":
    config = cli.parse(sys.argv[1:])
    rundir = RunDir.of(config)
    fault = json.loads(os.environ["FAULTS"]).get("/".join(rundir.path.parts[-2:]))
    attend = Loop.attend

    def attend_or_fail(self, *args, **kwargs):
        attend(self, *args, **kwargs)
        if self.counters.step >= config.run.steps // 2:
            if fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("planned crash")

    if fault and not rundir.exists():
        Loop.attend = attend_or_fail
    sys.exit(main(sys.argv[1:]))
