# Two commands matter: `make demo` and `make test`. Both make .venv themselves.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
comma := ,
export DO_NOT_TRACK = 1
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export HF_HUB_OFFLINE ?= 1

.PHONY: help demo loop test lint bench clean screens test-vllm test-trainers test-ray

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

# uv unpacks in seconds what takes pip minutes; it reads UV_FIND_LINKS where pip reads PIP_FIND_LINKS.
define install
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	links="$${UV_FIND_LINKS:-$${PIP_FIND_LINKS:-}}"; if [ -n "$$links" ]; then export UV_FIND_LINKS="$$links"; fi; \
	  $(BIN)/uv pip install -q --python $(BIN)/python --compile-bytecode -c constraints.txt -e '.[$(1)]'
	touch $@
endef

$(VENV)/.local: pyproject.toml constraints.txt
	$(call install,local$(comma)clean)

$(VENV)/.dev: pyproject.toml constraints.txt
	$(call install,local$(comma)clean$(comma)mixture$(comma)s3$(comma)eval$(comma)qlora$(comma)dev)


demo: $(VENV)/.local  ## the quickstart, offline on the CPU: data in, curated set and trained adapter out
	$(BIN)/provender run recipes/quickstart.yaml --store demo/store --demo
	@echo; echo "the environment is in $(VENV): \`source $(BIN)/activate\` puts provender on your path"

loop: $(VENV)/.local  ## the whole loop: server, workers, schedule; two versions curated, trained, measured; the leaderboard
	$(BIN)/provender up --all --schedule refresh/nightly
	$(BIN)/provender trigger refresh/nightly --set recipe=recipes/loop.yaml --set store=demo/loop \
	  --set 'overrides=["finetune.trigger=deployment"]'
	$(BIN)/provender trigger refresh/nightly --set recipe=recipes/loop.yaml --set store=demo/loop \
	  --set 'overrides=["finetune.trigger=deployment", "rank.method=perplexity"]'
	$(BIN)/provender leaderboard --store demo/loop
	@echo; echo "\`$(BIN)/provender down\` stops the server and the workers"

test: $(VENV)/.dev  ## the test suite, with the layering contracts
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.dev  ## ruff, import contracts, pyright
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/pyright

bench: $(VENV)/.dev  ## every benchmark, ratios against a named baseline
	$(BIN)/python -m benchmarks

test-vllm: $(VENV)/.dev  ## drives a real vLLM server in an environment of its own (opt-in, about 4 GB)
	PROVENDER_TEST_VLLM=1 $(BIN)/python -m pytest -q tests/backends/llm/test_vllm_real.py

test-trainers: $(VENV)/.dev  ## writes for real axolotl, LLaMA-Factory and ms-swift in environments of their own (opt-in, some GB)
	PROVENDER_TEST_TRAINERS=1 $(BIN)/python -m pytest -q tests/backends/train/test_trainers_real.py

test-ray: $(VENV)/.dev  ## a whole recipe on two Ray workers, the same refs as here, also when one is killed (opt-in)
	$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e '.[ray]'
	PROVENDER_TEST_RAY=1 $(BIN)/python -m pytest -q tests/flows/test_ray.py

screens: $(VENV)/.dev  ## screenshots of every page of the browser over the demo's store (needs chromium)
	$(BIN)/python -m tests.web.screens demo/store docs/screens

clean:  ## remove the environment and the demo's output
	rm -rf $(VENV) demo
