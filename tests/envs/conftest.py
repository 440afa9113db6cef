"""Lets the tests of this folder import `toys`, and lets names like `toys:Counter` be found."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent))
