"""Which TensorFlow wrote a checkpoint, where a file beside it says so. The bundle itself does not."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.message import DecodeError

from ckptmigrate.bundle.protos import MetaGraphDef, SavedModel

_MOST_BYTES = 256 * 1024 * 1024
"""A graph larger than this is not read for a version number."""


def writer_version(prefix: str) -> str:
    """The version of the TensorFlow that wrote a checkpoint, e.g. ``2.4.1``; empty if nothing says it.

    A SavedModel says it in ``saved_model.pb`` above its ``variables`` directory, a TF1 saver in ``PREFIX.meta``.
    Source: ``MetaInfoDef.tensorflow_version`` in tensorflow/core/protobuf/meta_graph.proto.

    Args:
        prefix: The checkpoint's prefix.
    """
    beside = Path(prefix)
    for path, message in (
        (beside.parent.parent / "saved_model.pb", SavedModel()),
        (beside.with_name(f"{beside.name}.meta"), MetaGraphDef()),
    ):
        if path.name == "saved_model.pb" and beside.parent.name != "variables":
            continue
        try:
            if path.stat().st_size > _MOST_BYTES:
                continue
            message.ParseFromString(path.read_bytes())
        except (OSError, DecodeError):
            # A file beside the checkpoint that is not there, or is something else, says nothing.
            continue
        graphs = message.meta_graphs if path.name == "saved_model.pb" else [message]
        for graph in graphs:
            if graph.meta_info_def.tensorflow_version:
                return str(graph.meta_info_def.tensorflow_version)
    return ""
