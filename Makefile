# What people and CI type. Every target does its own set-up.
.PHONY: test sim matrix soak fuzz corpus lint audit demo bench docs man deb setup tools

CARGO ?= cargo

# Formatting, lints, documentation, all tests. Most of those wait for servers and clients, so there are more threads than
# processors.
test: setup lint
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-4} $(CARGO) test --workspace --quiet

# Sessions in simulated worlds (proxy/src/simulation.rs): SEEDS=… as many, FIRST=… from this one on.
sim:
	SPILLWAY_SEEDS=$(or $(SEEDS),100000) SPILLWAY_FIRST_SEED=$(or $(FIRST),0) \
		$(CARGO) test --quiet -p spillway --lib every_world -- --nocapture

# Every server with every client in every way, and docs/compatibility.md's tables of it.
matrix: setup
	SPILLWAY_MATRIX=all $(CARGO) test --workspace --quiet --test matrix -- --nocapture

# A hundred clients of all kinds for TIME seconds (10 minutes by default); `make test` has them for 20 seconds.
soak: setup
	SPILLWAY_SOAK=$(or $(TIME),600) $(CARGO) test --workspace --quiet --test soak -- --nocapture

# The fuzz targets, led by coverage, for TIME seconds each; TARGETS="responses rows" for some of them.
fuzz:
	@CARGO="$(CARGO)" TIME="$(or $(TIME),60)" scripts/fuzz $(TARGETS)

# Their corpora of what real clients and servers say, recorded anew.
corpus: setup
	$(CARGO) run --quiet -p spillway-tests --example corpus

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet
	scripts/check-sans-io
	$(CARGO) test --workspace --quiet --test dependencies

# Dependencies by deny.toml, with known vulnerabilities, which needs a network. Builds cargo-deny where it is missing.
audit:
	$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --locked check

# A dump that dies of a slow sink, and the same one through Spillway.
demo: tools
	$(CARGO) build --release --quiet -p spillway
	$(CARGO) run --release --quiet -p spillway-bench --bin demo

# Every case by every way, with targets, into target/bench/ (about an hour). QUICK=1: small data, under 3 minutes.
# ARGS="--only NAME --rounds N", or "--readme README.md" to put the tables there.
bench:
	@scripts/setup --bench
	$(CARGO) build --release --quiet -p spillway
	$(CARGO) run --release --quiet -p spillway-bench --bin bench -- $(if $(QUICK),--quick) $(ARGS)

# The configuration reference, from the definition of the command line. A test tells when it is out of date.
docs:
	$(CARGO) run --quiet -p spillway --example docs -- reference docs/configuration.md

# Man pages and completions for bash, zsh and fish, into packaging/generated/.
man:
	$(CARGO) run --quiet -p spillway --example docs -- man packaging/generated/man
	$(CARGO) run --quiet -p spillway --example docs -- completions packaging/generated/completions

# A Debian package, into target/debian/. Builds and installs cargo-deb where it is missing.
deb: man
	$(CARGO) deb --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deb
	$(CARGO) deb --locked --strip -p spillway

# Installs the Debian packages that are missing, or says which, and fetches servers and drivers that Debian's release
# lacks.
setup:
	@scripts/setup

# The same without those.
tools:
	@scripts/setup --tools-only
