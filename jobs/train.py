"""gold -> weights and metrics/epochs: Horovod workers on Spark, fed by Petastorm.

./spark-submit.sh jobs/train.py --pipeline digits
"""

from millrace.flows import train
from millrace.flows.job import main
from millrace.flows.nightly import only

if __name__ == "__main__":
    main(only(train.step), __doc__)
