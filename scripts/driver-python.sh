#!/usr/bin/env bash
# The Python that Spark starts for a driver (spark.pyspark.driver.python, set by spark-submit.sh).
# Spark gives it a pipe to the JVM for its output, with stderr mixed into stdout. It gets the streams of spark-submit.sh back, so that
# progress sees the terminal and errors go to stderr; and it ends when its JVM ends, however that came.
[ -z "${MILLRACE_STDOUT:-}" ] || exec >"$MILLRACE_STDOUT"
[ -z "${MILLRACE_STDERR:-}" ] || exec 2>"$MILLRACE_STDERR"
unset MILLRACE_STDOUT MILLRACE_STDERR
exec setpriv --pdeathsig TERM "$MILLRACE_DRIVER_PYTHON" "$@"
