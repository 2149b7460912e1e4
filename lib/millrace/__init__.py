"""Millrace: a lake's water to the mill. Spark preprocessing and distributed training, exact and resumable."""

import os

__version__ = "0.1.0"

# TensorFlow and the Delta reader's native code read these when they are imported, wherever that happens first.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("RUST_LOG", "error")
