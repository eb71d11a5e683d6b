"""Source code: what it says of a model, and how it is changed together with a checkpoint."""
