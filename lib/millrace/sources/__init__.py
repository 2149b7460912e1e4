"""Readers of raw formats. Each yields the contract's columns and, where a row is broken, the rule that it breaks."""
