# Everything a person or CI does. `make` lists it.
SHELL := /bin/bash
export GOTOOLCHAIN := local
TOOLS := go tool -modfile=tools/go.mod
# Bounded and without a cache of results: a green run is a run.
GOTEST := go test -count=1 -timeout=20m

.PHONY: help run test test-short test-clients check vuln bench fuzz generate build kube conformance image release clean

help:
	@echo 'make run             the whole road on this machine: push, check, sign, deny, fix, admit'
	@echo 'make run CLUSTER=1   the same against a real kube-apiserver (built on first use)'
	@echo 'make test            all tests, with the race detector; builds the real parts they need'
	@echo 'make test-short      the tests that need no API server, in seconds'
	@echo 'make test-clients    real Grafeas clients (Google, Voucher, Kritis, ...) against the product'
	@echo 'make check           format, vet, lint, generated code'
	@echo 'make vuln            known vulnerabilities of what is linked in; needs their database'
	@echo 'make bench           benchmarks; each prints a ratio to a baseline of the same run'
	@echo 'make conformance     the known ways around a gate, tried on ours'
	@echo 'make fuzz            each fuzz target for FUZZTIME (10s)'
	@echo 'make generate        generated code, with the tools pinned in tools/go.mod'
	@echo 'make image IMAGE=R   the container image, pushed to the repository R (TAG=T), by ko'
	@echo 'make release         archives for every platform, checksums, SBOMs, Krew manifest, signed with KEY=FILE'
	@echo 'make build           bin/gatehouse and the kubectl plugin, bin/kubectl-resolve_tags'

build:
	@mkdir -p bin
	@echo 'building bin/gatehouse; the first time that is minutes, and each package is named as it is done'
	@go build -v -trimpath -o bin/ ./cmd/gatehouse ./cmd/kubectl-resolve_tags

run: build
	@go run -v ./examples/tour $(if $(CLUSTER),--cluster) $(if $(ONCE),--once)

# The tests talk to real gpg, openssl, promtool and Alertmanager, and the race detector needs a C compiler.
NEEDED := gpg:gnupg openssl:openssl patch:patch promtool:prometheus prometheus-alertmanager:prometheus-alertmanager gcc:gcc gcc:libc6-dev
MISSING := $(sort $(foreach n,$(NEEDED),$(if $(shell command -v $(firstword $(subst :, ,$(n)))),,$(lastword $(subst :, ,$(n))))))
.PHONY: prerequisites
prerequisites:
ifneq ($(MISSING),)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends $(MISSING); \
	else echo 'the tests need these packages: $(MISSING)' >&2; exit 1; fi
endif

# The API server is built before the tests, so that its minutes show as progress
# and not as a test that hangs.
kube:
	go run ./gatetest/controlplane/prebuild
	go run ./gatetest/helm/prebuild
	go run ./gatetest/kwok/prebuild
	go run ./gatetest/containerd/prebuild
	@CGO_ENABLED=0 go build -v -trimpath -buildvcs=false -o /dev/null ./cmd/gatehouse # as it is in an image

test: prerequisites kube
	$(GOTEST) -race ./...
	@$(MAKE) --no-print-directory test-clients

# A module of its own: Google's stubs and ours cannot be in one process. The
# product is built first, so that a cold cache shows as progress.
test-clients: prerequisites
	@go build -v -race -o /dev/null ./cmd/gatehouse
	cd test/clients && $(GOTEST) -race ./...

test-short: prerequisites
	go test -short ./...

check:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "not gofmt'd: $$unformatted" >&2; exit 1; fi
	go vet ./...
	cd test/clients && go vet ./...
	$(TOOLS) golangci-lint run ./...
	go mod verify >/dev/null
	cd test/clients && go mod verify >/dev/null
	@./tools/check-generated.sh

# Not part of check: its database is not reachable everywhere that builds.
vuln:
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

generate:
	./tools/generate.sh

bench:
	go test -timeout=60m -run='^$$' -bench=. -benchtime=1s ./signature ./decide ./metadata/... ./evidence/... ./admission ./server ./feed ./notify ./attest/... ./cmd/gatehouse ./tags/... ./cmd/internal/resolvetags

conformance: build
	bin/gatehouse conformance --self

FUZZTIME ?= 10s
fuzz:
	@set -e; for pkg in $$(go list ./...); do \
		for target in $$(go test -list='^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "== $$pkg $$target"; go test -run='^$$' -fuzz="^$$target$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=50x $$pkg; \
		done; \
	done

# Multi-arch, with a bill of materials, on a base without a shell (.ko.yaml). Prints its digest.
TAG ?= latest
image:
	@test -n "$(IMAGE)" || { echo 'say where to push it: make image IMAGE=registry.example.com/gatehouse TAG=v1.2.3' >&2; exit 2; }
	@KO_DOCKER_REPO=$(IMAGE) go tool -modfile=tools/release/go.mod ko build --bare --tags=$(TAG) --sbom=spdx ./cmd/gatehouse

# The checksums are signed with KEY, a private key in PEM (P-256); SNAPSHOT=1 takes a commit without a tag.
release:
	go run ./release $(if $(KEY),--key $(KEY),--unsigned) $(if $(SNAPSHOT),--snapshot)

clean:
	rm -rf bin dist
