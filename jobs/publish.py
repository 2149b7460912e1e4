"""weights -> exports, metrics/evaluation, predictions and a row in registry/models.

./spark-submit.sh jobs/publish.py --pipeline digits
"""

from millrace.flows import publish
from millrace.flows.job import main
from millrace.flows.nightly import only

if __name__ == "__main__":
    main(only(publish.step), __doc__)
