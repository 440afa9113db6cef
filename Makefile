# `make demo` and `make test` are all that a newcomer needs. Both make .venv first, without root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core
STAMP := $(VENV)/.installed
EXTRAS ?= all,dev,minigrid,bsuite
DEMO ?= runs/demo
SITE ?= build/site
JOBS ?= 2
BROWSER := tests/play/browser tests/docs/browser

.PHONY: demo test test-browser docs setup browser lint types check golden soak bench clean

demo: $(CORE)  ## train, evaluate and show a small agent in a few minutes
	$(BIN)/python scripts/demo.py --logdir $(DEMO)

test: $(STAMP)  ## every test but the long ones and those of the page, in JOBS processes of about 6 GB
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(BROWSER:%=--ignore %)

test-browser: $(STAMP) $(VENV)/.docs browser  ## the page of `dreamworld play`, and the site, in a real Chromium, in one process
	$(BIN)/python -m pytest $(BROWSER)

docs: $(VENV)/.docs  ## the site, in SITE; a link that leads nowhere is an error. Open SITE/index.html: it needs no server
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs $(SITE)

setup: $(STAMP)

# Without extras: all that the demo needs, a third of the download. `make setup` adds the rest to it.
$(CORE): pyproject.toml
	$(call install,)

$(STAMP): pyproject.toml
	$(call install,[$(EXTRAS)])
	@touch $(CORE)

$(VENV)/.docs: pyproject.toml
	$(call install,[docs])

# uv when it is there, otherwise venv and pip. Made again whenever pyproject.toml changes.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dreamworld needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV) && \
	  uv pip install --quiet --python $(BIN)/python -e '.$(1)'; \
	else \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.$(1)'; \
	fi
	@touch $@
endef

# The tests of `dreamworld play` and of the site look at their pages in Chromium. Debian and Ubuntu; elsewhere it is installed by hand.
browser:  ## installs Chromium from the system's packages, where it is not there
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || { \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
	  { echo "no chromium, and apt-get can't install it: the tests of pages need it" >&2; exit 1; }

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint Dockerfile

types: $(STAMP)
	$(BIN)/pyright --pythonpath $(BIN)/python

check: lint types test

golden: $(STAMP)  ## writes the golden values anew: only after a deliberate change of the algorithm
	$(BIN)/python tests/golden/golden.py

soak: $(STAMP)  ## what is longer than CI allows; writes its report to docs/
	$(BIN)/python tests/soak.py

bench: $(STAMP)
	$(BIN)/dreamworld benchmark update --configs size1m --obs vector:24 --updates 10
	$(BIN)/dreamworld benchmark update --configs size1m --obs image:64x64x3 --updates 10
	$(BIN)/dreamworld benchmark replay

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .cache runs
