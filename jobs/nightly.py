"""A whole night: ingest, preprocess, train, publish. What is done already is not done again.

./spark-submit.sh jobs/nightly.py --pipeline digits
"""

from millrace.flows.job import main
from millrace.flows.nightly import NIGHT

if __name__ == "__main__":
    main(NIGHT, __doc__)
