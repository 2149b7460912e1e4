"""A short Spark session that touches what every job touches; its classes become the archive that later drivers start from."""

import tempfile

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

with tempfile.TemporaryDirectory() as folder:
    spark = SparkSession.builder.getOrCreate()
    rows = spark.range(100).select("id", (F.col("id") % 3).alias("part"), F.sha2(F.col("id").cast("string"), 256).alias("text"))
    for mode, options in (("overwrite", {}), ("append", {}), ("overwrite", {"replaceWhere": "part = 1"})):
        source = rows.where("part = 1") if options else rows
        source.write.format("delta").mode(mode).options(**options).partitionBy("part").save(f"{folder}/table")
    table = spark.read.format("delta").load(f"{folder}/table")
    table.mapInArrow(lambda batches: batches, table.schema).groupBy("part").agg(F.count("*"), F.max("text")).collect()
    rows.write.mode("overwrite").csv(f"{folder}/csv")
    spark.read.text(f"{folder}/csv").count()
    spark.stop()
