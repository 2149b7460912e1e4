"""What is fitted on the train split, once, and used the same way by Spark and by the exported model."""
