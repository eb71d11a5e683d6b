"""Object graphs: read from a bundle, from the names of a TF1 checkpoint, or from a live model's template."""

from ckptmigrate.graph.object_graph import CONFIG_ROLE, ROOT, VARIABLE_ROLE, Node, ObjectGraph, SlotRecord
from ckptmigrate.graph.optimizer import Optimizer, Slot

__all__ = ["CONFIG_ROLE", "ROOT", "VARIABLE_ROLE", "Node", "ObjectGraph", "Optimizer", "Slot", "SlotRecord"]
