"""Keras models, one builder a file. Each takes the raw column, scales inside, and gives logits."""
