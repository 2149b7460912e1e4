"""Compacts tables and removes files that nobody needs; spares versions that stand, and what models or unfinished
runs need.

./spark-submit.sh jobs/maintain.py --lake ./lake --dry-run
"""

from millrace.flows.maintain_job import main

if __name__ == "__main__":
    main(__doc__)
