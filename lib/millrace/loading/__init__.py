"""Exact loading: every row once an epoch, in the same order on any number of workers.

`from millrace.loading import ColumnSpec, Options, dataset` is all that a script of one's own needs; it imports neither Spark nor,
until `Dataset.tf_data` is called, TensorFlow.
"""

from millrace.loading.columns import ColumnSpec
from millrace.loading.dataset import Dataset, Options, dataset

__all__ = ["ColumnSpec", "Dataset", "Options", "dataset"]
