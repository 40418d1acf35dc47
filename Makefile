# The developer's commands. The work stands in tools/ (set-up, build, test, demo) and in CMake; this file names it.
.DEFAULT_GOAL := help
.PHONY: help setup build install demo demo-stop test check asan fuzz coverage format tidy fresh-machine clean

EFFORT ?= full
MINUTES ?= 10
ROUTERS ?= 1
PREFIX ?= /usr/local
DESTDIR ?=
PROGRAMS = wardpost-router wardpost-gateway wardpostctl wardpost wardpost-bench
SOURCES = $(shell git ls-files '*.c' '*.h')

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

setup: ## install what is missing (Debian 12 and 13, as root or with sudo)
	@tools/setup develop

build: ## set up, then build the programs into build/release/bin
	@tools/setup build
	@tools/build release $(PROGRAMS)

install: build ## install below PREFIX=/usr/local (DESTDIR=DIR for a package): deploy/README.md
	@DESTDIR="$(DESTDIR)" cmake --install build/release --prefix "$(PREFIX)"

demo: build ## start a playground, send to someone who is offline, kill the router, see the message arrive (ROUTERS=3: kill a leader)
	@ROUTERS=$(ROUTERS) tools/demo

demo-stop: ## stop what `make demo` left running
	@tools/demo stop

test: ## everything that proves the product, about 9 minutes once built (EFFORT=ci: all of it under sanitizers too, never skips)
	@tools/setup test
	@tools/test $(EFFORT)

check: ## the quick part: unit tests and layers, release build
	@tools/setup test
	@tools/test quick

asan: ## unit and end-to-end tests under AddressSanitizer and UBSan
	@tools/setup test
	@tools/test asan

fuzz: ## fuzz every target anew, MINUTES=10 each
	@tools/setup develop
	@tools/fuzz $(MINUTES)

coverage: ## line and branch coverage of the unit tests, into build/coverage/report
	@tools/setup develop
	@tools/coverage

format: ## clang-format every source
	@tools/setup develop
	@clang-format -i $(SOURCES)

tidy: ## clang-tidy over every source
	@tools/setup develop
	@tools/build release
	@git ls-files '*.c' | grep -v '^tests/' | xargs -P 2 -n 8 clang-tidy --quiet -p build/release

fresh-machine: ## prove `make demo` and `make test` on a new Debian 12 and a new Debian 13 (root, long)
	@tools/setup develop
	@tools/fresh-machine

clean: demo-stop ## remove every build and the demo's playground
	@rm -rf build playground
