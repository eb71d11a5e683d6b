"""Write the checkpoints of `streaming.py` by our own means, in a few MB of memory: FOLDER ROWS BLOCKS [sparse].

The source has one large table among many blocks of 4 MiB. The targets are templates of the same model under other
names, plain, with a part of the bytes transposed, and in bfloat16. Nothing reads their values, so their files have
holes; so has the source's if it is to be sparse.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from builders import serialize

from ckptmigrate import Bundle
from ckptmigrate.bundle import Entry, data_path, encode_strings, extend_crc, index_path, mask_crc, write_index
from ckptmigrate.bundle.algebra import join_crcs
from ckptmigrate.spec import OBJECT_GRAPH_KEY, DType, Key, TensorSpec

WIDTH = 128
SIDE = 1024
PIECE_BYTES = 1 << 22
F32, BF16 = DType.FLOAT32, DType.BFLOAT16


def tree_of(blocks: str, names: tuple[str, str], count: int, shape: tuple[int, int], turned: int = 0) -> dict:
    """A model: a table, and blocks of a matrix and a vector; of the first some the matrix is turned round."""

    def block(number: int) -> dict:
        shape = (SIDE // 2, 2 * SIDE) if number < turned else (2 * SIDE, SIDE // 2)
        return {names[0]: np.broadcast_to(np.float32(0), shape), names[1]: np.broadcast_to(np.float32(0), (SIDE,))}

    table = np.broadcast_to(np.float32(0), shape)
    return {"model": {"table": table, blocks: [block(number) for number in range(count)]}}


def write(prefix: Path, tree: dict, *, dense: bool, dtype: DType = F32) -> None:
    """Write a checkpoint: with random numbers, or with holes."""
    serialized, tensors = serialize(tree)
    graph, graph_crc = encode_strings([serialized])
    noise = np.random.default_rng(0).standard_normal(PIECE_BYTES, np.float32)
    entries = []
    with Path(data_path(str(prefix), 0, 1)).open("xb") as file:
        for number, (key, array) in enumerate(tensors.items()):
            spec = TensorSpec(dtype, array.shape)
            offset, crc = file.tell(), 0
            size_bytes = spec.size_bytes or 0
            if dense:
                for start in range(0, size_bytes, PIECE_BYTES):
                    shift = (number * 7919 + start // 4096) % (PIECE_BYTES // 2)
                    piece = noise[shift:].view("u1").data[: min(PIECE_BYTES, size_bytes - start)]
                    crc = extend_crc(crc, piece)
                    file.write(piece)
            else:
                crc = _crc_of_zeros(size_bytes)
                file.seek(size_bytes, 1)
            entries.append(Entry(Key(key), spec, 0, offset, size_bytes, mask_crc(crc)))
        entries.append(
            Entry(OBJECT_GRAPH_KEY, TensorSpec(DType.STRING, ()), 0, file.tell(), len(graph), mask_crc(graph_crc))
        )
        file.write(graph)
    write_index(index_path(str(prefix)), entries, 1)
    with Bundle.open(prefix):
        pass


def _crc_of_zeros(size_bytes: int) -> int:
    crc, power, zeros = 0, 0, bytes(1)
    of_zeros = extend_crc(0, zeros)
    while size_bytes >> power:
        if size_bytes >> power & 1:
            crc = join_crcs(crc, of_zeros, 1 << power)
        of_zeros = join_crcs(of_zeros, of_zeros, 1 << power)
        power += 1
    return crc


def main() -> None:
    folder, rows, count, is_sparse = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), len(sys.argv) > 4
    write(folder / "source", tree_of("blocks", ("w", "b"), count, (rows, WIDTH)), dense=not is_sparse)
    new = ("layers", ("kernel", "bias"), count, (rows, WIDTH))
    write(folder / "renamed", tree_of(*new), dense=False)
    for share in (5, 10, 20):
        # Of all bytes, of which the table has one half.
        write(folder / f"turned-{share}", tree_of(*new, turned=max(1, 2 * count * share // 100)), dense=False)
    write(folder / "turned-table", tree_of("layers", ("kernel", "bias"), count, (WIDTH, rows)), dense=False)
    write(folder / "bfloat16", tree_of(*new), dense=False, dtype=BF16)


if __name__ == "__main__":
    main()
