#!/usr/bin/env bash
# Stands in for bin/java of a runtime that lacks jdk.incubator.vector, which Spark 4 asks for and does not need.
arguments=()
for argument in "$@"; do
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || arguments+=("$argument")
done
exec "@RUNTIME@/bin/java" "${arguments[@]}"
