# Two commands do all the set-up: `make dev` and `make test`.
#
# Four Go modules: the root is what others import and what is deployed;
# cmd/dev holds the embedded servers, test the browser driver and bench the
# benchmark, so that nobody inherits them. CI builds and tests each by itself (GOWORK=off).

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN         := $(CURDIR)/bin
PROGRAMS    := api worker subscriber runcast
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
ROOT        := GOWORK=off go
TEST_FLAGS  ?=

.PHONY: help dev build build-dev build-bench build-compare bench bench-quick compare compare-quick test test-quick test-servers lint fmt clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

dev: build-dev ## build and run everything in one process; DEV_FLAGS="--help" for its settings
	@exec $(BIN)/dev $(DEV_FLAGS)

build: build-dev ## put all programs into bin/
	$(ROOT) build -o $(BIN)/ $(PROGRAMS:%=./cmd/%)

# The first time, the embedded Temporal server takes some minutes to compile.
build-dev:
	@[ -e $(BIN)/dev ] || echo "building cmd/dev; the first time takes some minutes"
	cd cmd/dev && GOWORK=off go build -o $(BIN)/dev .

build-bench:
	@mkdir -p $(BIN)/bench
	$(ROOT) build -o $(BIN)/bench/ ./cmd/subscriber
	cd bench && GOWORK=off go build -o $(BIN)/bench/ ./floor ./naive ./load ./writers ./reports ./webhooks ./run
	cd cmd/dev && GOWORK=off go build -o $(BIN)/bench/ ./temporald

bench: test-servers build-bench ## measure the subscriber against its budget, some minutes; BENCH_FLAGS="-only cpu"
	@$(BIN)/bench/run -bin $(BIN)/bench -json $(BIN)/bench/results.json $(BENCH_FLAGS)

bench-quick: test-servers build-bench ## the same as a smoke test, in less than a minute
	@$(BIN)/bench/run -quick -bin $(BIN)/bench -json $(BIN)/bench/quick.json $(BENCH_FLAGS)

build-compare:
	@mkdir -p $(BIN)/bench
	cd bench && GOWORK=off go build -o $(BIN)/bench/ ./follow ./watch ./runs ./compare
	cd cmd/dev && GOWORK=off go build -o $(BIN)/bench/ ./temporald

compare: test-servers build-compare ## follow the same runs in all six ways, and say what each costs, 15 minutes; COMPARE_FLAGS="-only poll"
	@$(BIN)/bench/compare -bin $(BIN)/bench -out $(BIN) $(COMPARE_FLAGS)

compare-quick: test-servers build-compare ## the same as a smoke test, in less than a minute
	@$(BIN)/bench/compare -quick -bin $(BIN)/bench -out $(BIN)/quick $(COMPARE_FLAGS)

# Of cmd/dev only what has tests is compiled with the race detector: the
# embedded Temporal server would take many minutes.
test: test-servers build ## run all tests of all modules with the race detector
	cd cmd/dev && GOWORK=off go build ./... && GOWORK=off go test -race $(TEST_FLAGS) \
	  $$(GOWORK=off go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...)
	$(ROOT) build ./...
	$(ROOT) test -race -timeout 12m $(TEST_FLAGS) ./...
	cd bench && GOWORK=off go build ./... && GOWORK=off go test -race $(TEST_FLAGS) ./...
	cd test && RUNCAST_TEST_DEV_BIN=$(BIN)/dev GOWORK=off go test -race -timeout 12m $(TEST_FLAGS) ./...

test-quick: ## run the tests that need no server of their own, in less than a minute
	$(ROOT) test $(TEST_FLAGS) ./pkg/progress/... ./pkg/problem/... ./internal/settings/... ./internal/redislog/... ./internal/statsmetrics/... ./internal/floors/... ./subscriber/hub/... ./subscriber/page/...

test-servers: ## install what the tests need where it is missing (Debian)
	@scripts/test-servers

# Staticcheck would read all of the Temporal server for cmd/dev, for many
# minutes, so that module is vetted only. The root is vetted for macOS too,
# where it is developed as well: what is Linux's alone has a counterpart.
lint: ## gofmt, vet, staticcheck, and the floors
	@out=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	  if [ -n "$$out" ]; then echo "not gofmt'ed:"; echo "$$out"; exit 1; fi
	$(ROOT) vet ./...
	GOOS=darwin $(ROOT) vet ./...
	cd cmd/dev && GOWORK=off go vet ./...
	cd bench && GOWORK=off go vet ./...
	cd test && GOWORK=off go vet ./...
	$(ROOT) run $(STATICCHECK) ./...
	cd bench && GOWORK=off go run $(STATICCHECK) ./...
	cd test && GOWORK=off go run $(STATICCHECK) ./...
	$(ROOT) test ./internal/floors

fmt: ## gofmt everything
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')

clean: ## remove what was built
	rm -rf $(BIN)
