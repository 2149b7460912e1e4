"""Pure steps: DataFrame in, DataFrame out; no session, no reading, no writing, no counting."""
