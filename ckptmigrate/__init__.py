"""Migrations for TensorFlow and Keras checkpoints."""

__version__ = "0.1.0"
