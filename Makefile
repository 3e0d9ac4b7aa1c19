# minilm-lab: `make help` lists the targets. Everything sets itself up first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
LAB    := $(BIN)/minilm-lab
READY  := $(VENV)/.ready
# Tests run in two processes, one thread each: more threads than cores make torch crawl.
TESTS  := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile
# Extra Hydra overrides for a target: make demo ARGS="tune.lr=5e-5"
ARGS   ?=

# The papers' tables: make table5 SCALE=laptop LAUNCHER=joblib SEEDS=3 TEACHER=mpnet_base
SCALE    ?=
LAUNCHER ?= local
SEEDS    ?=
TEACHER  ?=
TABLES   := $(patsubst experiments/%/table.yaml,%,$(wildcard experiments/table*/table.yaml))
# Tables 4 and 12 are parameters and times, which nothing is trained for.
timing_demo   := smoke
timing_laptop := laptop
timing_gpu    := paper
timing_paper  := paper
TIMING = $(if $(SCALE),$(or $(timing_$(SCALE)),$(error SCALE=$(SCALE): choose demo, laptop, gpu or paper)),laptop)
ABLATIONS := $(patsubst experiments/%/table.yaml,%,$(wildcard experiments/v2_*/table.yaml)) ablation last_layer
launcher_local  := hydra/launcher=basic
launcher_joblib := hydra/launcher=joblib
launcher_slurm  := hydra/launcher=submitit_slurm
CHOICES  = $(or $(launcher_$(LAUNCHER)),$(error LAUNCHER=$(LAUNCHER): choose local, joblib or slurm)) \
	$(if $(SCALE),scale=$(SCALE)) $(if $(SEEDS),scale.seeds=$(SEEDS)) $(if $(TEACHER),teacher=$(TEACHER)) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup demo halve knowledge movies table table-dry tables ablations report dashboard sync runs bench test reliability lint format docs docs-serve smoke clean \
	table4 table12 $(TABLES) $(TABLES:%=%-dry) $(ABLATIONS) $(ABLATIONS:%=%-dry)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  tableN       A table of the MiniLM paper: $(TABLES) table4 table12"
	@echo "  v2_…         A table of MiniLMv2, or the grid: $(ABLATIONS)"
	@echo "  …-dry        The same, only saying which runs it needs, which are done, and what the rest costs"
	@echo "               with SCALE=demo|laptop|gpu|paper LAUNCHER=local|joblib|slurm SEEDS=… TEACHER=… ARGS=…"

setup: $(READY) ## Make the virtual environment with the pinned packages

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=<path>")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@# GPU builds of torch bring the triton they fit; a CPU build brings none, and the kernels' tests need one.
	$(BIN)/python -c "import triton" 2>/dev/null || $(BIN)/python -m pip install --quiet --no-deps triton==3.9.0
	@touch $@

demo: $(READY) ## Distil, fine-tune and compare: the whole job in about ten minutes on two cores
	$(LAB) table name=demo $(ARGS)

halve: $(READY) ## Half the layers of any sentence encoder: make halve TEACHER=<folder, hub id or embedded name> OUT=<folder>
	$(LAB) halve $(if $(TEACHER),source=$(TEACHER)) $(if $(OUT),out=$(OUT)) $(ARGS)

knowledge: $(READY) ## What a decoder keeps of its keys and knowledge, and nine ways to decode lists (docs/knowledge.md)
	$(LAB) table name=navigation $(ARGS)
	$(LAB) table name=knowledge $(ARGS)

.PHONY: author
author: $(READY) ## How small can an e-commerce author get: floors, teacher, half of its layers (docs/authoring.md)
	$(LAB) table name=authoring $(ARGS)

.PHONY: merrec
merrec: $(READY) ## A generated marketplace: its statistics, titles by teacher and students, the released code's faults (docs/merrec.md)
	$(LAB) merrec users=4000
	$(LAB) table name=merrec $(ARGS)
	$(LAB) table name=merrec_defects $(ARGS)
	$(LAB) table name=merrec_clicks_defects $(ARGS)

movies: $(READY) ## Who will come to a film that is not out yet: baselines, teacher, student, out of packages (docs/movies.md)
	$(LAB) table name=movies $(ARGS)
	$(LAB) recommend source=all_minilm_l6 'text="A comet will hit the earth. Two former lovers have one night to say what they never said."' 'genres=[Drama,Romance]'

table: $(READY) ## Run what a table misses and render it: make table NAME=wikipedia_half_depth ARGS="paths.hub=…"
	$(LAB) table name=$(NAME) $(ARGS)

table-dry: $(READY) ## Say which runs a table needs and which are done
	$(LAB) table name=$(NAME) dry=true $(ARGS)

$(TABLES) $(ABLATIONS): $(READY)
	$(LAB) table name=$@ $(CHOICES)

$(TABLES:%=%-dry) $(ABLATIONS:%=%-dry): $(READY)
	$(LAB) table name=$(@:%-dry=%) dry=true $(CHOICES)

table4: $(READY)
	$(LAB) speed timing=$(TIMING) $(ARGS)

table12: $(READY)
	$(LAB) speed timing=multilingual teacher=$(or $(TEACHER),xlmr_base) $(ARGS)

tables: $(TABLES) table4 table12 ## Every table of the MiniLM paper (make -k tables goes on after one that fails)

ablations: $(ABLATIONS) ## Every table of MiniLMv2, and the grids of layer, relations, depth and method

report: $(READY) ## One HTML page of every table that there is
	$(LAB) report $(ARGS)

dashboard: $(READY) ## Save a W&B workspace that compares students (after `wandb login`)
	$(LAB) dashboard $(ARGS)

sync: $(READY) ## Upload the W&B runs that were kept offline (after `wandb login`)
	$(LAB) sync $(ARGS)

runs: $(READY) ## List the runs
	$(LAB) runs $(ARGS)

bench: $(READY) ## Measure a distillation step here: make bench ARGS="grid=smoke"
	$(LAB) bench $(ARGS)

test: $(READY) ## Run the tests
	$(TESTS) $(ARGS)

reliability: $(READY) ## Kill, cut and fill runs, and compare what comes after (minutes; docs/reliability.md)
	$(BIN)/python -m tests.reliability.matrix $(or $(ARGS),--cases 1)

lint: $(READY) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## Build the documentation as a site, into site/
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --quiet

docs-serve: $(READY) ## Show the documentation at http://127.0.0.1:8000 while you write it
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs serve

smoke: $(READY) ## The demo in a minute: a few steps, a few sentences, its own folder of runs
	WANDB_MODE=disabled $(LAB) table name=demo paths.runs=runs/smoke scale.steps=20 scale.epochs=1 \
		task.train_examples=256 'task.domains=[movie]' $(ARGS)

clean: ## Delete the virtual environment and caches; runs stay
	rm -rf $(VENV) site .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
