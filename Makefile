# Everything here runs at exact versions through Go itself. Needed: Go 1.26, git, make, a C compiler (for -race alone).

GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GITLEAKS := github.com/zricethezav/gitleaks/v8@v8.30.1
PPROF    := github.com/google/pprof=github.com/google/pprof@v0.0.0-20260906184651-6331bc6350fe

# What the caller's environment says must not change what is tested, nor may a test run write to go.mod.
export GOFLAGS     := -mod=readonly -buildvcs=false
export GOTOOLCHAIN := local
export GOWORK      := off

# SQLite is C turned into Go: instrumenting it costs 15x and finds nothing of ours (ARCHITECTURE.md, Decisions).
RACE := -race \
	-gcflags='modernc.org/sqlite/lib=-race=false -d=checkptr=0' \
	-gcflags='modernc.org/libc=-race=false -d=checkptr=0'

TESTED := go run ./testkit/archtest/tested

# Tests that ask real servers have the build tag services; deploy/testbed/with starts what they ask. SERVICES=none: without both.
SERVICES ?= all
ifeq ($(SERVICES),none)
  TAGS :=
  WITH :=
else
  TAGS := -tags services
  WITH := deploy/testbed/with
endif

.DEFAULT_GOAL := help
.PHONY: help build test fmt vet tidy-check lint secrets race charts bench long browser goldens tidy

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -e 's/:.*## /\t/' | expand -t 14

build: ## the binaries, into bin/, without cgo
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...

test: fmt vet lint secrets race charts browser tidy-check ## everything that must hold before a change lands

fmt: ## is every file formatted?
	@out=$$(gofmt -l .); \
	if [ -n "$$out" ]; then echo "not formatted, run gofmt -w:"; echo "$$out"; exit 1; fi

vet: ## go vet
	go vet -tags browser,services,charts ./... && go vet -tags services,unguarded ./...

lint: ## golangci-lint, with what .golangci.yml asks for
	go run $(GOLANGCI) run --allow-parallel-runners ./...

secrets: ## gitleaks over the working tree and the history (rules: .gitleaks.toml); a planted key must make it fail
	go run $(GITLEAKS) dir . --no-banner --redact --log-level warn
	go run $(GITLEAKS) git . --no-banner --redact --log-level warn
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && printf 'token: rf_pat_%071d\n' 7 > "$$tmp/notes.txt" && \
	{ go run $(GITLEAKS) dir "$$tmp" --config .gitleaks.toml --exit-code 42 --no-banner --redact --log-level error 2>&1 | \
	grep -q 'exit status 42' || { echo "the planted key was not found"; exit 1; }; }

race: ## all tests under the race detector; a skipped test is a failure; minutes per suite
	$(WITH) $(TESTED) $(TAGS) $(RACE) -timeout 45m ./...
ifneq ($(SERVICES),none)
	$(WITH) $(TESTED) -tags services,unguarded -timeout 10m -run 'TestTheDatabasesWallIsEnoughAlone|TestPostgreSQLFillsThePort' ./testkit/isolation ./adapters/sqlstore/postgres
else
	@echo "left out: what asks PostgreSQL, Kafka, Mosquitto and RabbitMQ (SERVICES=none)"; test "$$CI" != true
endif

charts: ## the Helm chart, as helm renders it and Kubernetes takes it; helm and kubeconform are built by Go at first
	deploy/helm/with $(TESTED) -tags charts -count=1 -timeout 10m -run Chart ./deploy

tidy-check: ## go.mod and go.sum are what go mod tidy would write (on a copy, see dependencies under ARCHITECTURE.md)
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && cp go.mod go.sum "$$tmp/" && \
	go mod edit -replace=$(PPROF) "$$tmp/go.mod" && \
	GOFLAGS=-mod=mod go mod tidy -modfile="$$tmp/go.mod" && \
	go mod edit -dropreplace=github.com/google/pprof "$$tmp/go.mod" && go mod edit -fmt "$$tmp/go.mod" && \
	grep -v '^github.com/google/pprof ' go.sum > "$$tmp/have.sum" && grep -v '^github.com/google/pprof ' "$$tmp/go.sum" > "$$tmp/want.sum"; \
	diff -u go.mod "$$tmp/go.mod" && diff -u "$$tmp/have.sum" "$$tmp/want.sum" || { echo "not tidy: run make tidy"; exit 1; }

tidy: ## writes go.mod and go.sum as tidy-check wants them
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && cp go.mod go.sum "$$tmp/" && \
	go mod edit -replace=$(PPROF) "$$tmp/go.mod" && \
	GOFLAGS=-mod=mod go mod tidy -modfile="$$tmp/go.mod" && \
	go mod edit -dropreplace=github.com/google/pprof "$$tmp/go.mod" && go mod edit -fmt "$$tmp/go.mod" && \
	cp "$$tmp/go.mod" go.mod && grep -v '^github.com/google/pprof ' "$$tmp/go.sum" > go.sum

browser: ## the pages and the session cookie in a real Chromium, which is installed from Debian's packages where we may
	deploy/browser/with $(TESTED) -tags browser -count=1 -timeout 10m -run Browser ./cmd/ringfence

goldens: ## rewrites the golden files and the README's tables; look at the diff
	go test -count=1 $$(grep -rl --include='*_test.go' 'flag.Bool("update"' . | xargs -n1 dirname | sort -u) -update
	deploy/helm/with go test -count=1 -tags charts -run Chart ./deploy -update

bench: ## the figures of BENCHMARKS.md, ratios within one run
	$(WITH) go test $(TAGS) -run '^$$' -bench . -benchmem -timeout 60m ./...

long: ## the same suites with the numbers of the long run
	RINGFENCE_LONG=1 $(WITH) $(TESTED) $(TAGS) $(RACE) -timeout 120m ./...
