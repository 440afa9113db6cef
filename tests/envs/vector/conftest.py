"""Makes the toy environments importable, here and in workers, which inherit this process's path."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
