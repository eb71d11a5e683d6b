"""Who wrote a checkpoint is told where a file beside it says so."""

import csv

import pytest
from corpus import corpus_dir

from ckptmigrate.bundle import writer_version
from ckptmigrate.bundle.protos import MetaGraphDef


def test_every_version_that_the_corpus_records_in_a_saved_model_is_found():
    corpus = corpus_dir()
    if corpus is None:
        pytest.skip("no corpus here")
    with (corpus / "INDEX.tsv").open() as index:
        rows = list(csv.DictReader(index, delimiter="\t"))
    found = {row["prefix"]: writer_version(str(corpus / row["prefix"])) for row in rows}
    assert found["rust-keras-2020/variables/variables"] == "2.3.0"
    assert found["serving-half-plus-two-2016/export"] == "0.12.head"
    assert found["sonnet-cifar-1/checkpoint-1"] == ""
    assert all(found[row["prefix"]] in ("", row["tf_version"]) for row in rows)


def test_a_file_that_is_something_else_says_nothing(tmp_path):
    (tmp_path / "ckpt.meta").write_bytes(b"\xff\xff\xff not a graph")
    assert writer_version(str(tmp_path / "ckpt")) == ""


def test_the_graph_of_a_tf1_saver_says_it(tmp_path):
    graph = MetaGraphDef()
    graph.meta_info_def.tensorflow_version = "1.15.0"
    (tmp_path / "ckpt.meta").write_bytes(graph.SerializeToString())
    assert writer_version(str(tmp_path / "ckpt")) == "1.15.0"
