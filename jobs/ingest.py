"""Raw files -> bronze/SOURCE: takes the files that no other night has taken.

./spark-submit.sh jobs/ingest.py --pipeline digits
"""

from millrace.flows import ingest
from millrace.flows.job import main
from millrace.flows.nightly import only

if __name__ == "__main__":
    main(only(ingest.step), __doc__)
