#!/usr/bin/env bash
# Tells Spark which GPUs this machine has, as the JSON that spark.*.resource.gpu.discoveryScript asks for:
# {"name": "gpu", "addresses": ["0", "1"]}. See https://spark.apache.org/docs/4.0.2/configuration.html (Custom Resource Scheduling).
set -euo pipefail
indices=$(nvidia-smi --query-gpu=index --format=csv,noheader)
addresses=$(sed 's/[^0-9]//g; /^$/d; s/.*/"&"/' <<<"$indices" | paste -sd, -)
echo "{\"name\": \"gpu\", \"addresses\": [${addresses//,/, }]}"
