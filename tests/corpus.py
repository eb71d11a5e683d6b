"""Where the real checkpoints are that other people's programs wrote; tests skip what is not there."""

import csv
import os
from pathlib import Path


def corpus_dir() -> Path | None:
    named = os.environ.get("CKPTMIGRATE_CORPUS")
    directory = Path(named) if named else Path(__file__).parents[2] / "shared" / "corpus"
    return directory if (directory / "INDEX.tsv").is_file() else None


def corpus_refuse_dir() -> Path | None:
    directory = corpus_dir()
    beside = directory.parent / "corpus-refuse" if directory else None
    return beside if beside and beside.is_dir() else None


def corpus_rows() -> list[dict[str, str]]:
    """A row of INDEX.tsv for each checkpoint; none if there is no corpus."""
    directory = corpus_dir()
    if directory is None:
        return []
    with (directory / "INDEX.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def corpus_prefixes() -> dict[str, str]:
    """The prefix of each checkpoint, by its name."""
    directory = corpus_dir()
    return {row["name"]: str(directory / row["prefix"]) for row in corpus_rows()} if directory else {}
