"""A unikernel on every partition of a Spark data set: RDD.pipe is all that it takes.

    python3 examples/spark_pipe.py UKFILTER IMAGE INPUT OUTPUT [ARG...]

Spark gives a guest the lines of a partition and takes its output's lines. checkCode=True makes a guest's
status other than 0 the failure of its task, so of the job; without it a crash would lose lines in silence.
On a cluster, UKFILTER and IMAGE are paths on the workers (spark-submit --files IMAGE).
"""

import shlex
import sys

from pyspark import SparkConf, SparkContext


def main(ukfilter: str, image: str, source: str, target: str, *args: str) -> None:
    """Filter the text files of source into the directory target."""
    conf = SparkConf().setAppName("ukfilter").setIfMissing("spark.master", "local[2]")
    with SparkContext(conf=conf) as spark:
        command = shlex.join([ukfilter, image, *args])
        spark.textFile(source, minPartitions=2).pipe(command, checkCode=True).saveAsTextFile(target)


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit("usage: spark_pipe.py UKFILTER IMAGE INPUT OUTPUT [ARG...]")
    main(*sys.argv[1:])
