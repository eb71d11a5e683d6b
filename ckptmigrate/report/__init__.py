"""Plans, bundles, differences and proofs for people: pure functions of values."""
