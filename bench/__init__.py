"""The benchmarks: each against a peer in one run. `python -m bench [NAME...]`."""
