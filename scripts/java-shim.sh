#!/usr/bin/env bash
# Stands in for bin/java. Spark 4 asks for jdk.incubator.vector, which it does not need: a runtime without that module refuses
# to start, and one with it prints a warning. The driver's JVM gets the class archive that was made at set-up, which saves seconds
# of class loading; one that does not fit any more is passed over without a word (-Xlog:disable).
arguments=()
options=()
archive="@ARCHIVE@"
for argument in "$@"; do
  case "$argument" in
    --add-modules=jdk.incubator.vector) continue ;;
    org.apache.spark.deploy.SparkSubmit) [ ! -f "$archive" ] || options=("-Xlog:disable" "-XX:SharedArchiveFile=$archive") ;;
  esac
  arguments+=("$argument")
done
exec "@RUNTIME@/bin/java" "${options[@]}" "${arguments[@]}"
