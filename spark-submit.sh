#!/usr/bin/env bash
# Runs a job by the real spark-submit, in an environment that is made on the first call.
#   ./spark-submit.sh [--profile local|cluster|gpu] [OPTIONS OF SPARK-SUBMIT] jobs/JOB.py [OPTIONS OF THE JOB]
# Returns the job's exit code; 130 after Ctrl-C, which the job gets once to stop in order. A second Ctrl-C ends everything at once.
#   MILLRACE_PROFILE    stands for --profile
#   MILLRACE_SPARK_LOG  what of Spark's own log is shown: off (default), error, warn, info
# The job gets MILLRACE_ROOT, and MILLRACE_READY_FILE: it writes its pid there once it handles SIGINT itself.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv="$root/.venv"
say() { printf 'spark-submit.sh: %s\n' "$*" >&2; }

run=''          # this call's own directory
child=''        # the pid that is waited for: bootstrap, the zip, then the JVM
session=''      # the session that a step before the job, or the job, runs in
relays=''       # pids of what writes the driver's output where it cannot be opened by name
interrupts=0
code=0
driver_pid() { [ -n "$run" ] && [ -s "$run/ready" ] && cat "$run/ready"; }

# pass_on SIGNAL: to the driver if it is ready to stop in order, else to whatever runs
pass_on() {
  local pid
  if pid=$(driver_pid); then kill "-$1" "$pid" 2>/dev/null; elif [ -n "$child" ]; then kill -TERM "$child" 2>/dev/null; fi
}
on_interrupt() {
  interrupts=$((interrupts + 1))
  if [ "$interrupts" -gt 1 ]; then
    kill_rest KILL
    [ -n "$run" ] || [ -z "$child" ] || kill -KILL "$child" 2>/dev/null
  else
    [ ! -t 2 ] || say "stopping; Ctrl-C again ends it at once"
    pass_on INT
  fi
}
trap on_interrupt INT
trap 'pass_on TERM' TERM
trap 'pass_on HUP' HUP

# wait_for_child: until it is gone, whatever signals come meanwhile; its exit code goes to `code`
wait_for_child() {
  local status
  while :; do
    wait "$child"; status=$?
    [ "$status" -eq 127 ] || code=$status
    kill -0 "$child" 2>/dev/null || break
  done
  # A signal that came in the last moment makes `wait` return that signal's number: ask once more.
  wait "$child" 2>/dev/null; status=$?
  [ "$status" -eq 127 ] || code=$status
}

# prepare COMMAND...: a step before the job, in a session of its own; its failure is this script's
prepare() {
  setsid "$@" <&0 & child=$! session=$!
  wait_for_child
  child=''
  [ "$interrupts" -eq 0 ] || { clean_up; exit 130; }
  session=''
  [ "$code" -eq 0 ] || exit "$code"
}

# What the job started, and what that started, is known by the session that it runs in and by the ready file's name in its environment.
rest_of_job() {
  local stat fields
  {
    [ -z "$run" ] || grep -lzsF "MILLRACE_READY_FILE=$run/ready" /proc/[0-9]*/environ | cut -d/ -f3
    if [ -n "$session" ]; then
      for stat in /proc/[0-9]*/stat; do
        { read -r -d '' fields <"$stat" || true; } 2>/dev/null
        # The command's name, in brackets, may hold blanks: what follows it is state, ppid, pgrp, session.
        set -- ${fields##*) }
        [ "${1:-Z}" = Z ] || [ "${4:-}" != "$session" ] || { stat=${stat#/proc/}; echo "${stat%/stat}"; }
      done
    fi
  } | sort -u
}
kill_rest() { local rest; rest=$(rest_of_job); [ -z "$rest" ] || kill "-$1" $rest 2>/dev/null; }
clean_up() {
  trap '' INT TERM HUP
  local tries
  for tries in {1..20}; do
    [ -n "$(rest_of_job)" ] || break
    [ "$interrupts" -lt 2 ] || kill_rest KILL
    sleep 0.1
  done
  kill_rest KILL
  exec 7>&- 8>&-  # the relays end when nobody can write to them any more
  [ -z "$relays" ] || wait $relays 2>/dev/null
  [ -z "$run" ] || rm -rf "$run"
}

# --- the options that are ours, and those that have to be joined with ours: up to the job's own name -----------------------------
profile=${MILLRACE_PROFILE:-}
master='' deploy_mode=client user_zips='' user_jars='' user_files=''
options=()
while [ $# -gt 0 ]; do
  name=$1 joined=''
  case $1 in
    -h | --help | --version | --usage-error | -v | --verbose | --supervise | --load-spark-defaults) options+=("$1"); shift; continue ;;
    --*=*) name=${1%%=*} value=${1#*=} joined=yes ;;
    -*) value=${2:-} ;;
    *) break ;;
  esac
  case $name in
    --profile) profile=$value ;;
    --py-files) user_zips=$value ;;
    --jars) user_jars=$value ;;
    --files) user_files=$value ;;
    --master) master=$value; options+=(--master "$value") ;;
    --deploy-mode) deploy_mode=$value; options+=(--deploy-mode "$value") ;;
    *) if [ -n "$joined" ]; then options+=("$1"); else options+=("${@:1:2}"); fi ;;
  esac
  shift
  [ -n "$joined" ] || [ $# -eq 0 ] || shift
done
is_local() { [[ $1 == local || $1 == local\[* ]]; }
if [ -z "$profile" ]; then
  if [ -z "$master" ] || [[ $master == local* ]]; then profile=local; else profile=cluster; fi
fi
case $profile in
  local | cluster | gpu) ;;
  *) say "unknown profile '$profile': known are local, cluster, gpu (conf/spark/NAME.conf)"; exit 2 ;;
esac
settings="$root/conf/spark/$profile.conf"
[ -n "$master" ] || master=$(sed -n 's/^spark\.master[[:space:]]*//p' "$settings")

prepare "$root/scripts/bootstrap.sh"
prepare "$venv/bin/python" "$root/scripts/build_zip.py" --quiet

trap clean_up EXIT
give_up() { [ "$interrupts" -eq 0 ] || exit 130; exit 1; }
run=$(mktemp -d "${TMPDIR:-/tmp}/millrace-XXXXXXXX") || give_up
# A copy: the next call may build the zip anew while this job still imports from it.
cp "$root/build/millrace.zip" "$run/millrace.zip" || give_up

export JAVA_HOME="$venv/java" MILLRACE_ROOT="$root"
export SPARK_HOME="$venv/lib/python3.11/site-packages/pyspark"
export LOG4J_CONFIGURATION_FILE="file:$root/conf/spark/log4j2.properties"
ours=(--properties-file "$settings" --py-files "$run/millrace.zip${user_zips:+,$user_zips}")
# What Spark's Python daemon has imported can no longer be another's.
[ -z "$user_zips" ] || ours+=(--conf spark.python.daemon.module=pyspark.daemon)
if is_local "$master"; then
  export SPARK_LOCAL_IP=127.0.0.1
  # Delta lies among Spark's own jars here, so there is nothing to ship.
  [ -z "$user_jars" ] || ours+=(--jars "$user_jars")
  ours+=(--conf "spark.sql.warehouse.dir=file:$run/warehouse")
else
  [[ $master != local-cluster* ]] || export SPARK_LOCAL_IP=127.0.0.1
  jars=$(printf '%s,' "$venv"/jars/*.jar)
  ours+=(--jars "$jars$user_jars")
  [ "$profile" != gpu ] || user_files="$root/scripts/gpu_discovery.sh${user_files:+,$user_files}"
fi
[ -z "$user_files" ] || ours+=(--files "$user_files")
# Spark's Python daemon imports the code before it knows of --py-files.
[ "$profile" != local ] || export PYSPARK_PYTHON="$venv/bin/python" PYTHONPATH="$run/millrace.zip${PYTHONPATH:+:$PYTHONPATH}"
if [ "$deploy_mode" = client ]; then
  export PYSPARK_DRIVER_PYTHON="$venv/bin/python" MILLRACE_DRIVER_PYTHON="$venv/bin/python"
  ours+=(--conf "spark.pyspark.driver.python=$root/scripts/driver-python.sh")
fi

# --- the driver's way to our stdout and stderr: the JVM stands between, and passes no open files on ------------------------------
# A terminal or a pipe can be opened a second time by name. A file cannot, without two offsets: a relay writes it.
reopenable() { { [ -t "$1" ] || [ -p "/proc/$$/fd/$1" ]; } && [ -w "/proc/$$/fd/$1" ]; }
relay() { trap '' INT TERM HUP; exec cat; }  # ends when the last writer has
MILLRACE_STDOUT="/proc/$$/fd/1" MILLRACE_STDERR="/proc/$$/fd/2"
if ! reopenable 1; then exec 7> >(relay); relays+=" $!"; MILLRACE_STDOUT="/proc/$$/fd/7"; fi
if ! reopenable 2; then exec 8> >(relay >&2); relays+=" $!"; MILLRACE_STDERR="/proc/$$/fd/8"; fi
export MILLRACE_STDOUT MILLRACE_STDERR

# A session of its own: the terminal's Ctrl-C reaches this script alone, which passes it on exactly once, to the driver alone.
# Started in the background, the JVM has SIGINT ignored, which Java leaves so. If this script is killed, the JVM gets TERM.
[ "$interrupts" -eq 0 ] || exit 130
MILLRACE_READY_FILE="$run/ready" \
  setsid setpriv --pdeathsig TERM "$SPARK_HOME/bin/spark-submit" "${ours[@]}" "${options[@]}" "$@" <&0 7>&- 8>&- &
child=$! session=$!
[ "$interrupts" -eq 0 ] || pass_on INT
wait_for_child
child=''
if [ "$interrupts" -gt 1 ] || { [ "$interrupts" -gt 0 ] && ! driver_pid >/dev/null; }; then code=130; fi
exit "$code"
