"""weights -> exports, metrics/evaluation, predictions and a row in registry/models.

./spark-submit.sh jobs/publish.py --pipeline digits
"""

from millrace.flows import publish
from millrace.flows.job import main
from millrace.flows.nightly import one_step

if __name__ == "__main__":
    main(one_step(publish.step), __doc__)
