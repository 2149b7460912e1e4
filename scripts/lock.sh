#!/usr/bin/env bash
# Compiles requirements/*.in into lock files with hashes. Names no index: pip takes the one it is configured with.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../requirements"
compile() {
  local output=$1; shift
  uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_31 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-annotate --no-header --output-file "$output" "$@"
}
compile build.lock build.in
compile packages.lock build.in core.in cpu.in dev.in
compile java.lock java.in
compile java21.lock java21.in
compile horovod.lock horovod.in --no-deps
compile peers.lock peers.in
