# The two commands to know: `make run` and `make test`. Settings are variables: make run PORT=9000 DATA_DIR=/srv/chat

PYTHON ?= python3
UV ?= uv
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
INSTALL := $(PIP) install --require-hashes --only-binary :all: --requirement

.DEFAULT_GOAL := help
.PHONY: help run admin test test-mysql chaos model fuzz mutants bench audit lint format lock clean

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Use

# make starts this line without a shell between, so its SIGTERM reaches the runner.
run: $(VENV)/.embedded ## Start everything: PORT=8000 BIND=127.0.0.1 DATA_DIR=./data WORKERS=5
	@$(BIN)/python -m chatsystem.embedded --end-with-parent

admin: $(VENV)/.embedded ## Create a user for /admin/ (same DATA_DIR as make run)
	@$(BIN)/python manage.py createsuperuser

##@ Develop

# What touches the database. The rest is the same whatever the database is.
ON_SERVERS := tests/mysql tests/writelog tests/api tests/admin tests/commands tests/faults

test: lint ## Everything that has to be green: checks and tests, on SQLite and on MariaDB
	$(BIN)/python -m pytest
	DATABASE=mariadb $(BIN)/python -m pytest $(ON_SERVERS)

test-mysql: $(VENV)/.dev ## What touches the database on a real MySQL 9 (the first time as root: it is fetched)
	DATABASE=mysql $(BIN)/python -m pytest $(ON_SERVERS)

SECONDS := 600
SEED := 1
chaos: $(VENV)/.dev ## Kill everything under load for SECONDS=600, and check that nothing is lost (SEED=1)
	$(BIN)/python -m tests.faults.chaos --seconds $(SECONDS) --seed $(SEED)

model: $(VENV)/.dev ## 20,000 random steps of writes, drains and faults against a model of them: SEED=7
	$(BIN)/python -m pytest tests/model -s --hypothesis-profile=long $(if $(SEED),--hypothesis-seed=$(SEED))

EXAMPLES := 1000
fuzz: $(VENV)/.dev ## Hold the running product to its description, with EXAMPLES=1000 requests of each operation: SEED=7
	$(BIN)/python -m tests.openapi.fuzz --examples $(EXAMPLES) --seed $(SEED)

mutants: $(VENV)/.dev ## Break the product in the places that matter, and see each break caught: JOBS=2
	$(BIN)/python -m tests.mutants

bench: $(VENV)/.dev ## Measure everything beside its reference, ten minutes: ONLY="drain pages" TEXTS=LOG.jsonl.gz
	$(BIN)/python -m bench $(addprefix --only ,$(ONLY)) $(addprefix --texts ,$(TEXTS))

lint: $(VENV)/.dev ## Style, types, the import contract, migrations, deployment checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run
	SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(64))') HTTPS_ONLY=1 \
		ADMIN_API_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(32))') \
		$(BIN)/python manage.py check --deploy --fail-level WARNING

audit: $(VENV)/.dev ## Look for known vulnerabilities in what is installed, where the advisories can be reached
	@$(BIN)/python requirements/audit.py

format: $(VENV)/.dev ## Format and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The other locks are held to the versions of the first, so that one .venv serves all.
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.10 --generate-hashes --custom-compile-command "make lock"
lock: ## Pin the newest versions that requirements/*.in allow (needs uv)
	$(COMPILE) requirements/embedded.in --output-file requirements/embedded.lock
	$(COMPILE) requirements/dev.in --constraint requirements/embedded.lock --output-file requirements/dev.lock
	$(COMPILE) requirements/server.in --constraint requirements/embedded.lock --output-file requirements/server.lock
	$(COMPILE) requirements.txt --constraint requirements/embedded.lock --output-file requirements/all.lock

clean: ## Remove .venv and caches; DATA_DIR stays
	rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The virtual environment. pip is what `venv` makes last, so a half-made one is made again.

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
		echo "make: $(PYTHON) is not a Python of version 3.10 or later; name one with PYTHON=python3.12." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $(PYTHON) cannot make virtual environments; install its venv (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.embedded: requirements/embedded.lock | $(BIN)/pip
	@echo "Installing the packages of $< into $(VENV) (only the first time and after an update)."
	@$(INSTALL) $<
	@touch $@

# Holds all of embedded.lock in the same versions, so it counts for both. mysqlclient alone is compiled.
$(VENV)/.dev: requirements/dev.lock | $(BIN)/pip
	@$(PYTHON) -m tests.services.packages
	@echo "Installing the packages of $< into $(VENV) (only the first time and after an update)."
	@$(INSTALL) $< --no-binary mysqlclient
	@touch $(VENV)/.embedded $@
