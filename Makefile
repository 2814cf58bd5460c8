# Each target starts from nothing but this folder and Python 3.11 or newer, and is quick the second time.
PYTHON ?= python3
VENV   ?= .venv
SOURCES := pyproject.toml constraints.txt setup.py $(wildcard model/csrc/*)
SAMPLE := examples/tamarack-valley-water-2024.pdf
RUN    := $(VENV)/bin
# Without compiling every file of every package: Python does it for those that are imported, when they are.
PIP    := $(RUN)/python -m pip install -qq --disable-pip-version-check --no-compile -c constraints.txt
# Processes that run tests; each computes with one thread and may hold 5 GB of models.
TESTERS ?= 2
# The tools below must not pick up settings or a library from the caller's environment.
DEMO   := LONGLEAF_HOME=.demo $(RUN)/longleaf
EXPERIMENTS := context_throughput context_memory experts layer_ratio against_others fine_tuning distributed

.PHONY: install demo test lint type bench experiments app screenshots clean
.DEFAULT_GOAL := help

help:
	@echo "make install   virtual environment with Longleaf"
	@echo "make demo      install, fetch the embedded model (1.2 GB, once), ask the sample document two questions"
	@echo "make test      install and run the tests"
	@echo "make lint      ruff"
	@echo "make type      mypy, strict"
	@echo "make bench     the README's figures: ingestion, answers, embedding, vectors, the decoder, readings and the experiments in short (45 minutes)"
	@echo "make experiments   what the hybrid buys, measured in full and kept in benchmarks/results (about two hours)"
	@echo "make app       open the browser front door on the sample document"
	@echo "make screenshots   the pictures of the app in docs/images (needs chromium)"

$(VENV)/bin/python:
	@echo "== virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit("Longleaf needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else 0'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.base: $(SOURCES) | $(VENV)/bin/python
	@echo "== installing Longleaf (torch is the large part; a minute or two)"
	@$(PIP) -e .
	@touch $@

# More than Longleaf alone: one installation in place of two, since each compiles the kernels.
$(VENV)/.app: $(SOURCES) | $(VENV)/bin/python
	@echo "== installing Longleaf with the browser app (torch is the large part; a minute or two)"
	@$(PIP) -e '.[app]'
	@touch $(VENV)/.base $@

$(VENV)/.dev: $(SOURCES) | $(VENV)/bin/python
	@echo "== installing Longleaf with the development tools (torch is the large part; a minute or two)"
	@$(PIP) -e '.[app,dev,ocr]'
	@touch $(VENV)/.base $@

install: $(VENV)/.base

demo: $(VENV)/.base
	@$(RUN)/longleaf model pull embedded >/dev/null
	@echo; echo '$$ longleaf ask $(SAMPLE) "What was the total operating revenue in fiscal year 2024?"'
	@$(DEMO) ask $(SAMPLE) "What was the total operating revenue in fiscal year 2024?"
	@echo; echo '$$ longleaf ask $(SAMPLE) "What was the salary of the general manager in fiscal year 2024?"'
	@$(DEMO) ask $(SAMPLE) "What was the salary of the general manager in fiscal year 2024?"

test: $(VENV)/.dev
	@$(RUN)/longleaf model pull embedded smollm2-135m >/dev/null
	@OMP_NUM_THREADS=1 $(RUN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.dev
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check .

type: $(VENV)/.dev
	@$(RUN)/mypy

bench: $(VENV)/.dev
	@$(RUN)/python -m benchmarks.ingestion $(SAMPLE)
	@$(RUN)/python -m benchmarks.not_found
	@$(RUN)/longleaf model pull embedded smollm2-135m >/dev/null
	@$(RUN)/python -m benchmarks.decoder
	@$(RUN)/python -m benchmarks.decoder --shape moe --parts prefill,decode,long,products,int8
	@$(RUN)/python -m benchmarks.embedding
	@$(RUN)/python -m benchmarks.vector_index --sizes 10000 100000
	@$(RUN)/python -m benchmarks.readings
	@$(RUN)/python -m benchmarks.reader
	@$(RUN)/python -m benchmarks.quantization
	@for name in $(EXPERIMENTS); do $(RUN)/python -m benchmarks.$$name --short || exit 1; done

experiments: $(VENV)/.dev
	@$(RUN)/longleaf model pull embedded smollm2-135m >/dev/null
	@for name in $(EXPERIMENTS); do $(RUN)/python -m benchmarks.$$name --save || exit 1; done

app: $(VENV)/.app
	@$(RUN)/longleaf model pull embedded >/dev/null
	@LONGLEAF_HOME=.demo $(RUN)/longleaf app --sample $(SAMPLE)

screenshots: $(VENV)/.dev
	@$(RUN)/longleaf model pull embedded >/dev/null
	@$(RUN)/python docs/screenshots.py

clean:
	rm -rf $(VENV) .demo build model/*.so *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
