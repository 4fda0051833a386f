# The two main commands are `make run` and `make test`. Settings are variables: make run PORT=9000 DATA_DIR=/srv/chat

PYTHON ?= python3
UV ?= uv
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
INSTALL := $(PIP) install --no-user --require-hashes --only-binary :all: --requirement

# Removes variables of pip and Python that would install packages elsewhere or load others. Those of the package index stay.
INDEX := CACHE_DIR CERT CLIENT_CERT CONFIG_FILE DEFAULT_TIMEOUT EXTRA_INDEX_URL FIND_LINKS INDEX_URL KEYRING_PROVIDER \
	NO_CACHE_DIR NO_INDEX PROXY RETRIES TIMEOUT TRUSTED_HOST
unexport PYTHONHOME $(filter-out $(addprefix PIP_,$(INDEX)),$(filter PIP_% PYTHON%,$(.VARIABLES)))

.DEFAULT_GOAL := help
.PHONY: help run admin test test-all test-nodes test-mariadb test-mysql chaos scale model fuzz mutants bench audit lint format lock clean

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Use

# make runs this line without a shell in between, so make's SIGTERM reaches the runner.
run: $(VENV)/.embedded ## Start everything: PORT=8000 BIND=127.0.0.1 DATA_DIR=./data WORKERS=5
	@$(BIN)/python -m chatsystem.embedded --end-with-parent

admin: $(VENV)/.embedded ## Create a user for /admin/ (same DATA_DIR as make run)
	@$(BIN)/python manage.py createsuperuser

##@ Develop

# A file's tests run in one process, since they share fixtures. tests/support/distribution.py starts with the longest.
PYTEST := $(BIN)/python -m pytest --numprocesses 3 --dist loadfile
# The tests that use the database. WITHOUT_SQL are files whose outcome does not depend on SQL: requests that are refused
# before a query, headers, connections, settings, and Redis alone. Only `make test` runs them. A new file runs on the servers.
WITHOUT_SQL := $(addprefix tests/api/test_,authentication.py bad_json.py conditions.py errors.py over_http.py rate_limit.py \
	security_headers.py) tests/backoffice/test_newlines.py tests/commands/test_check.py tests/faults/test_deliveries.py \
	tests/monitoring/test_reachable.py tests/writelog/test_redis_as_a_service.py tests/writelog/test_scripts.py
ON_SERVERS := tests/mysql tests/writelog tests/live/test_following.py tests/api tests/monitoring tests/backoffice tests/commands \
	tests/faults $(addprefix --ignore=,$(WITHOUT_SQL))

test: lint ## Run all checks, and most tests on SQLite: before each commit
	$(PYTEST) -m "not nodes"

test-all: test-nodes test-mariadb test-mysql audit ## Run all other tests, and the audit: in CI, after make test

test-nodes: $(VENV)/.dev ## Run the tests with several nodes of a service, and those of the Helm chart
	$(PYTEST) -m nodes

test-mariadb: $(VENV)/.dev ## Run the database tests on a real MariaDB
	DATABASE=mariadb $(PYTEST) $(ON_SERVERS)

test-mysql: $(VENV)/.dev ## Run the database tests on a real MySQL 9 (needs root the first time, to install it)
	DATABASE=mysql $(PYTEST) $(ON_SERVERS)

SECONDS := 600
SEED := 1
chaos: $(VENV)/.dev ## Kill processes under load for SECONDS=600 and check that nothing is lost (SEED=1)
	$(BIN)/python -m tests.faults.chaos --seconds $(SECONDS) --seed $(SEED)

scale: $(VENV)/.dev ## Kill nodes of Redis, Galera and MySQL under load, print a table, and test on Valkey: ONLY=galera
	$(BIN)/python -m tests.scale --only "$(ONLY)"

model: $(VENV)/.dev ## Compare 20,000 random writes, drains and faults with a model: SEED=7
	$(BIN)/python -m pytest tests/model -s --hypothesis-profile=long $(if $(SEED),--hypothesis-seed=$(SEED))

EXAMPLES := 1000
fuzz: $(VENV)/.dev ## Fuzz the running product by its OpenAPI description, EXAMPLES=1000 per operation: SEED=7
	$(BIN)/python -m tests.openapi.fuzz --examples $(EXAMPLES) --seed $(SEED)

mutants: $(VENV)/.dev ## Run mutation tests: break the product in many places and check that a test fails: JOBS=2
	$(BIN)/python -m tests.mutants

bench: $(VENV)/.dev ## Run all benchmarks next to their references, 25 minutes: ONLY="drain pages" TEXTS=LOG.jsonl.gz
	$(BIN)/python -m bench $(addprefix --only ,$(ONLY)) $(addprefix --texts ,$(TEXTS))

lint: $(VENV)/.dev ## Check style, types, import contracts, migrations and deployment settings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run
	SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(64))') HTTPS_ONLY=1 \
		ADMIN_API_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(32))') \
		$(BIN)/python manage.py check --deploy --fail-level WARNING

audit: $(VENV)/.dev ## Look for known vulnerabilities in installed packages, if the advisories are reachable
	@$(BIN)/python requirements/audit.py

format: $(VENV)/.dev ## Format and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The first lock constrains the others, so that one .venv serves all.
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.10 --generate-hashes --custom-compile-command "make lock"
lock: ## Pin the newest versions that requirements/*.in allow (needs uv)
	$(COMPILE) requirements/embedded.in --output-file requirements/embedded.lock
	$(COMPILE) requirements/dev.in --constraint requirements/embedded.lock --output-file requirements/dev.lock
	$(COMPILE) requirements/server.in --constraint requirements/embedded.lock --output-file requirements/server.lock
	$(COMPILE) requirements.txt --constraint requirements/embedded.lock --output-file requirements/all.lock

clean: ## Remove .venv and caches; DATA_DIR stays
	rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The virtual environment. `venv` installs pip last, so an environment without pip is incomplete and is created again. So
# is one that does not run or was created by another Python. If packages of a lock are missing, they are installed again.
# These checks run before make compares files.
ifneq ($(filter-out help clean lock,$(MAKECMDGOALS)),)
REPAIR := $(shell \
	[ ! -e $(BIN)/pip ] || $(BIN)/python -I -c 'import pip' 2>/dev/null || { rm -f $(BIN)/pip && echo again; }; \
	for name in embedded dev; do \
		[ ! -e $(VENV)/.$$name ] || $(BIN)/python -I requirements/installed.py requirements/$$name.lock 2>/dev/null || \
			rm -f $(VENV)/.$$name; \
	done)
$(if $(REPAIR),$(info $(VENV) was created by another Python, or no longer runs: creating it again.))
endif

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
		echo "make: $(PYTHON) is not a Python of version 3.10 or later; set one with PYTHON=python3.12." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $(PYTHON) cannot create virtual environments; install its venv (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.embedded: requirements/embedded.lock | $(BIN)/pip
	@echo "Installing the packages of $< into $(VENV) (only the first time and after an update)."
	@$(INSTALL) $<
	@$(BIN)/python -I requirements/installed.py $<
	@touch $@

# dev.lock contains all of embedded.lock in the same versions, so it satisfies both. Only mysqlclient is compiled.
$(VENV)/.dev: requirements/dev.lock | $(BIN)/pip
	@$(PYTHON) -m tests.support.services.packages
	@echo "Installing the packages of $< into $(VENV) (only the first time and after an update)."
	@$(INSTALL) $< --no-binary mysqlclient
	@$(BIN)/python -I requirements/installed.py $<
	@touch $(VENV)/.embedded $@
