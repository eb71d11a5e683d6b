"""Renames in source: which sites there are, which of them are proven, and a checkpoint that moves along."""
