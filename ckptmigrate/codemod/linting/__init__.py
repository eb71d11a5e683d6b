"""Code that restores checkpoints: what is unsafe in it, and what a migration makes stale."""
