"""Millrace: a lake's water to the mill. Spark preprocessing and distributed training, exact and resumable."""

__version__ = "0.1.0"
