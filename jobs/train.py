"""gold -> weights and metrics/epochs: Horovod workers on Spark, fed by Petastorm.

./spark-submit.sh jobs/train.py --pipeline digits
"""

from millrace.flows import train
from millrace.flows.job import main
from millrace.flows.nightly import one_step

if __name__ == "__main__":
    main(one_step(train.step), __doc__)
