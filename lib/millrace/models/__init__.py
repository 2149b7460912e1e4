"""Keras models, one builder a file. Each takes the column as gold has it, scales inside, and gives logits or a number."""
