#!/usr/bin/env bash
# Makes what a cluster needs, and prints the line that uses it:
#   dist/millrace.zip           the code, the shipped pipelines and contracts
#   dist/jars/                  Delta
#   dist/environment.tar.gz     the Python environment, without an interpreter: nodes need the same Python 3.11
# Options: --without-environment       leave a packed environment as it is (packing takes minutes)
#          --python-prefix DIRECTORY   where the nodes have Python 3.11 (DIRECTORY/bin/python3.11), if not where this machine does
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
environment=yes python_prefix=()
while [ $# -gt 0 ]; do
  case $1 in
    --without-environment) environment=no; shift ;;
    --python-prefix) python_prefix=("${2:?--python-prefix names a directory}"); shift 2 ;;
    *) echo "package.sh: unknown option '$1': known are --without-environment, --python-prefix" >&2; exit 2 ;;
  esac
done
"$root/scripts/bootstrap.sh"
venv="$root/.venv" dist="$root/dist"
mkdir -p "$dist"
"$venv/bin/python" "$root/scripts/build_zip.py" --quiet --output "$dist/millrace.zip"
rm -rf "$dist/jars.new"
cp -r "$venv/jars" "$dist/jars.new"
rm -rf "$dist/jars"
mv "$dist/jars.new" "$dist/jars"
if [ "$environment" = yes ]; then
  "$venv/bin/python" "$root/scripts/pack_environment.py" "$dist/.environment.tar.gz" "${python_prefix[@]}"
  mv "$dist/.environment.tar.gz" "$dist/environment.tar.gz"
fi
(cd "$dist" && du -shc millrace.zip jars environment.tar.gz 2>/dev/null) >&2 || true
jars=$(printf ',%s' "$dist"/jars/*.jar)
cat >&2 <<END

To run a job on a cluster (on YARN or Kubernetes also with --deploy-mode cluster; then without spark.pyspark.driver.python):
END
quoted() { printf '%q ' "$@"; }
echo "JAVA_HOME=$(quoted "$venv/java")SPARK_HOME=$(quoted "$("$venv/bin/python" -c 'import os, pyspark; print(os.path.dirname(pyspark.__file__))')")$(
  quoted "$venv/bin/spark-submit" --master yarn --deploy-mode client --properties-file "$root/conf/spark/cluster.conf" \
    --conf "spark.pyspark.driver.python=$venv/bin/python" --jars "${jars#,}" --py-files "$dist/millrace.zip" \
    --archives "$dist/environment.tar.gz#environment" "$root/jobs/nightly.py" --pipeline mnist --lake hdfs:///lake)"
