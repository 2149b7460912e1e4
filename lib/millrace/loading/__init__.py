"""Exact loading: every row once an epoch, in the same order on any number of workers."""
