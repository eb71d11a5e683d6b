"""The doctor: why a restore failed, or only seemed to succeed, and what mends it."""
