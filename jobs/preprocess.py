"""bronze -> silver -> gold: typed, checked, deduplicated, split, encoded.

./spark-submit.sh jobs/preprocess.py --pipeline digits
"""

from millrace.flows import preprocess
from millrace.flows.job import main
from millrace.flows.nightly import only

if __name__ == "__main__":
    main(only(preprocess.step), __doc__)
