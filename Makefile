# The map of the project's commands. `make` alone prints it.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
# DVC starts the stages with the `python` of the activated environment.
ACTIVATE := . $(VENV)/bin/activate

.PHONY: help repro doctor table claims sweep test test-all test-sharing lint benchmark-here bench-train bench-eval bench-data bench-predict bench-deploy clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 18

$(READY): requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "segcore needs Python 3.11 or newer, '$(PYTHON)' is older; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

repro: $(READY)  ## run the whole chain (params.yaml says what) and compare with the committed numbers
	@$(ACTIVATE) && dvc repro && python -m pipeline.compare

doctor: $(READY)  ## what this machine has for the chain, what is missing, and what to do about it
	@$(ACTIVATE) && python -m pipeline.doctor

table: $(READY)  ## all experiments in one table: docs/results/, its index.html, and README's tables
	@$(ACTIVATE) && python -m pipeline.table

claims: $(READY)  ## every published number and what came of it here
	@$(ACTIVATE) && python -m pipeline.claims

sweep: $(READY)  ## MODELS="bisenetv2 stdc1" SEEDS="1 2 3" [DATASET=minicity] [ARGS=--per-gpu]: all of them, resumable
	@$(ACTIVATE) && python -m pipeline.sweep --models $(MODELS) --seeds $(SEEDS) --datasets $(or $(DATASET),minicity) $(ARGS)

benchmark-here: $(READY)  ## measure speed again, on this machine
	@$(ACTIVATE) && dvc repro --single-item --force benchmark && dvc repro report

bench-train: $(READY)  ## how fast a training step is, against a plain one, and where the time goes; bench/train.json
	@$(ACTIVATE) && OMP_WAIT_POLICY=PASSIVE python -m bench.train

bench-eval: $(READY)  ## how fast an image is scored in all modes, against a plain evaluator; bench/evaluate.json
	@$(ACTIVATE) && OMP_WAIT_POLICY=PASSIVE python -m bench.evaluate

bench-data: $(READY)  ## how fast a training sample is read and transformed, against plain code; bench/data.json
	@$(ACTIVATE) && python -m bench.data

bench-predict: $(READY)  ## what reading, computing and writing at once gains; FILE=model.pt FROM=folder; bench/predict.json
	@$(ACTIVATE) && OMP_WAIT_POLICY=PASSIVE python -m bench.predict --weights $(FILE) --photographs $(FROM)

bench-deploy: $(READY)  ## how fast deployed files are against PyTorch eager float32; bench/deploy.json
	@$(ACTIVATE) && python -m bench.deploy

test: $(READY)  ## the tests, a few minutes
	@$(ACTIVATE) && python -m pytest -m "not slow"

test-all: $(READY)  ## the slow tests too; the main chain must be up to date
	@$(ACTIVATE) && python -m pytest && test "$$(dvc status dvc.yaml)" = "Data and pipelines are up to date." || \
		{ echo "tests failed, or the chain is not up to date: see dvc status dvc.yaml"; exit 1; }

test-sharing: $(READY)  ## sharing over real servers: S3, SSH, WebDAV; installs what that needs
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-sharing.txt
	@$(ACTIVATE) && python -m pytest tests/pipeline/test_sharing.py tests/pipeline/test_remotes.py tests/pipeline/test_broken_sharing.py

lint: $(READY)  ## style
	@$(ACTIVATE) && ruff check . && ruff format --check .

clean:  ## remove results and caches, keep data and .venv
	rm -rf work .pytest_cache .ruff_cache .hypothesis
