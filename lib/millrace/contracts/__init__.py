"""Table contracts: schemas/NAME.yaml, and what follows from one for Arrow, Spark and Delta."""
