from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import datasets
import pandas as pd
import pytest
from tiny_sentences import write_csv

from trainables import sentence_sources
from trainables.errors import DataError
from trainables.sentence_sources import (
    SNLI,
    STSB,
    Source,
    find_source,
    read_scored_pairs,
    read_training_pairs,
)

SNLI_ROWS = [
    ("a dog runs", "a dog", 0),
    ("a man eats", "a man sleeps", 2),
    ("the cat", "a cat", 0),
    ("a", "b", -1),
]
SCORED = ("sentence1", "sentence2", "score", "split")
SCORED_ROWS = [("a dog", "the dog", 1.0, "validation"), ("a cat", "a man", 0.1, "validation"),
               ("in", "on", 0.5, "test"), ("a bird", "NA", 0.0, "test")]  # fmt: skip
DATA = Path(__file__).parents[3] / "shared/data"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def snli(directory: Path, rows: Sequence[tuple[object, ...]], suffix: str = ".parquet") -> Path:
    directory.mkdir(exist_ok=True)
    table = pd.DataFrame(rows, columns=["premise", "hypothesis", "label"])
    for split in ("train", "validation", "test"):
        if suffix == ".csv":
            table.to_csv(directory / f"{split}.csv", index=False)
        else:
            table.to_parquet(directory / f"{split}.parquet")
    return directory


def training_pairs(directory: Path) -> sentence_sources.RawPairs:
    return read_training_pairs("snli", find_source("data.source", str(directory)))


def own_pairs(path: Path) -> sentence_sources.RawPairs:
    return read_training_pairs("sentence_pairs", find_source("data.source", str(path)))


def scored_pairs(path: Path) -> dict[str, sentence_sources.RawPairs]:
    return read_scored_pairs(find_source("data.scored_pairs", str(path)))


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_entailment_pairs_of_a_directory(tmp_path: Path, suffix: str) -> None:
    pairs = training_pairs(snli(tmp_path / "snli", SNLI_ROWS, suffix))
    assert pairs.first == ["a dog runs", "the cat"] and pairs.second == ["a dog", "a cat"]
    assert pairs.scores is None


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_own_pairs_of_a_file(tmp_path: Path, suffix: str) -> None:
    rows = [("A dog, running", "1984"), ("NA", "null"), ('say "yes"', "two\nlines"), ("größer", "日本")]
    path = tmp_path / f"pairs{suffix}"
    if suffix == ".csv":
        write_csv(path, ("sentence1", "sentence2"), rows)
    else:
        pd.DataFrame(rows, columns=["sentence1", "sentence2"]).to_parquet(path)
    pairs = own_pairs(path)
    assert [*zip(pairs.first, pairs.second, strict=True)] == rows


def test_scored_pairs_of_one_file_are_told_apart_by_split(tmp_path: Path) -> None:
    found = scored_pairs(write_csv(tmp_path / "scored.csv", SCORED, SCORED_ROWS))
    assert found["validation"].first == ["a dog", "a cat"] and found["test"].second == ["on", "NA"]
    scores = found["test"].scores
    assert scores is not None and scores.tolist() == [0.5, 0.0]


def test_relative_and_absolute_paths_are_one_source(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "pairs.csv", ("sentence1", "sentence2"), [("a", "b")])
    assert find_source("data.source", "pairs.csv") == find_source("data.source", str(path))


def test_hub_id_is_not_a_path(tmp_path: Path) -> None:
    (tmp_path / "stanfordnlp").mkdir()
    assert find_source("data.source", SNLI) == Source("data.source", SNLI)


def csv_of(
    columns: tuple[str, ...], *rows: tuple[object, ...]
) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    return columns, list(rows)


PAIRS = ("sentence1", "sentence2")
BAD_PAIRS = {
    "has no column sentence2, only sentence1, other; name its columns sentence1, sentence2": csv_of(
        ("sentence1", "other"), ("a", "b")
    ),
    "data.source: row 1 of {path}: sentence2 is empty; give it a sentence, or leave the row out": csv_of(
        PAIRS, ("a", "b"), ("c", "")
    ),
    "data.source: row 0 of {path}: sentence1 is empty": csv_of(PAIRS, (" \t", "b"), ("c", "d")),
    "has 1 pair(s) to train on; contrast needs 2": csv_of(PAIRS, ("a", "b")),
    "has 0 pair(s) to train on": csv_of(PAIRS),
}


@pytest.mark.parametrize("message", BAD_PAIRS)
def test_bad_pairs_are_refused(tmp_path: Path, message: str) -> None:
    path = write_csv(tmp_path / "pairs.csv", *BAD_PAIRS[message])
    with pytest.raises(DataError) as caught:
        own_pairs(path)
    assert message.format(path=path) in str(caught.value)
    assert "data.source" in str(caught.value) and str(path) in str(caught.value)


BAD_SCORES = {
    "has no column split, only sentence1, sentence2, score; say in it of each row whether it is for "
    "validation or test": csv_of(SCORED[:3], ("a", "b", 1)),
    "split is 'train', not validation or test": csv_of(SCORED, ("a", "b", 1, "train")),
    "has no row whose split is test": csv_of(SCORED, ("a", "b", 1, "validation")),
    "data.scored_pairs: row 1 of {path} has score 4.5; scores are from 0 (unrelated) to 1": csv_of(
        SCORED, *SCORED_ROWS[:1], ("a", "c", 4.5, "validation"), *SCORED_ROWS[2:]
    ),
    "data.scored_pairs: row 2 of {path}: score is 'much', not a number": csv_of(
        SCORED, *SCORED_ROWS[:2], ("a", "c", "much", "test"), SCORED_ROWS[3]
    ),
    "has score 5; scores are from 0 (unrelated) to 1 (the same), divide them by their largest": csv_of(
        SCORED, ("a", "c", 5, "validation"), *SCORED_ROWS
    ),
    "has score -0.5; scores are from 0 (unrelated) to 1 (the same), subtract their smallest": csv_of(
        SCORED, ("a", "c", -0.5, "validation"), *SCORED_ROWS
    ),
    "has score 5; scores are from 0 (unrelated) to 1 (the same), subtract their smallest and": csv_of(
        SCORED, ("a", "c", 5, "validation"), ("a", "d", -5, "validation"), *SCORED_ROWS
    ),
    "score is 'inf', not a number": csv_of(SCORED, ("a", "b", "inf", "validation"), *SCORED_ROWS),
    "score is '', not a number": csv_of(SCORED, ("a", "b", "", "validation"), *SCORED_ROWS),
    "data.scored_pairs: split validation of {path} has fewer than two different scores": csv_of(
        SCORED, ("a", "b", 1, "validation"), ("a", "c", 1, "validation"), *SCORED_ROWS[2:]
    ),
}


@pytest.mark.parametrize("message", BAD_SCORES)
def test_bad_scores_are_refused(tmp_path: Path, message: str) -> None:
    path = write_csv(tmp_path / "scored.csv", *BAD_SCORES[message])
    with pytest.raises(DataError) as caught:
        scored_pairs(path)
    assert message.format(path=path) in str(caught.value)
    assert "data.scored_pairs" in str(caught.value)


def test_label_outside_the_set_is_refused(tmp_path: Path) -> None:
    directory = snli(tmp_path / "snli", [*SNLI_ROWS, ("a", "b", 3)])
    with pytest.raises(DataError, match=r"row 4 of .*split train of .* has label 3; SNLI has 0 for ent"):
        training_pairs(directory)


def test_empty_sentence_counts_only_where_it_is_used(tmp_path: Path) -> None:
    directory = snli(tmp_path / "snli", [("", "b", 1), *SNLI_ROWS])
    assert len(training_pairs(directory).first) == 2
    directory = snli(tmp_path / "snli", [*SNLI_ROWS, (None, "b", 0)])
    with pytest.raises(DataError, match=r"row 4 of .*: premise is empty"):
        training_pairs(directory)


def test_numbers_in_place_of_text_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"sentence1": ["a", "b"], "sentence2": [1, 2]}).to_parquet(tmp_path / "pairs.parquet")
    with pytest.raises(DataError, match=r"row 0 of .*: sentence2 holds 1, not text"):
        own_pairs(tmp_path / "pairs.parquet")


def test_directory_without_a_split_is_refused(tmp_path: Path) -> None:
    directory = snli(tmp_path / "snli", SNLI_ROWS)
    (directory / "train.parquet").unlink()
    with pytest.raises(DataError, match="has no split train, only validation, test"):
        training_pairs(directory)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("./absent", "absent does not exist; name a directory or a .csv or .parquet file"),
        ("some/data/pairs", "some/data/pairs does not exist"),
        ("my pairs", "my pairs does not exist"),
        ("data/", "data does not exist"),
        ("absent.tsv", "absent.tsv does not exist"),
        ("data/absent.txt", "data/absent.txt does not exist"),
        ("absent.JSON", "absent.JSON does not exist"),
        ("absent.csv", "absent.csv does not exist"),
        ("./empty", "empty has no .csv or .parquet files"),
        ("./pairs.txt", "pairs.txt is no .csv or .parquet file; save it as one"),
    ],
)
def test_path_to_nothing_readable_is_refused(tmp_path: Path, named: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "pairs.txt").write_text("a,b")
    with pytest.raises(DataError, match=r"^data\.source: ") as caught:
        find_source("data.source", named)
    assert message in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", [b"PAR1 torn", b""])
def test_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pairs.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"pairs\.parquet cannot be read as parquet"):
        own_pairs(tmp_path / "pairs.parquet")
    directory = snli(tmp_path / "snli", SNLI_ROWS)
    (directory / "train.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"data\.source: .*snli cannot be read as one dataset"):
        training_pairs(directory)


def test_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_bytes("sentence1,sentence2\ngrößer,b\n".encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read as csv in UTF-8"):
        own_pairs(tmp_path / "pairs.csv")


def test_hub_out_of_reach_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_sources, "hub_fault", lambda name, kind: ConnectionError("no route"))
    with pytest.raises(
        DataError, match=r"^data\.source: .*no route.*or set data\.source to a directory"
    ):
        read_training_pairs("snli", find_source("data.source", "someone/absent"))


def test_path_taken_for_a_hub_id_is_said_not_to_be_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentence_sources, "hub_fault", lambda name, kind: ConnectionError("no route"))
    source = find_source("data.source", "data/pairs")
    with pytest.raises(DataError) as caught:
        read_training_pairs("sentence_pairs", source)
    assert f"no such file or directory here, {tmp_path / 'data/pairs'}, either" in str(caught.value)
    assert "a relative path begins with ./" in str(caught.value)
    (tmp_path / "data/pairs").mkdir(parents=True)
    with pytest.raises(DataError, match=r"the directory .*data/pairs has no \.csv or \.parquet files"):
        read_training_pairs("sentence_pairs", source)


@pytest.mark.parametrize("named", ["pairs", "some-one/Some_data.v1.2"])
def test_what_could_be_a_hub_id_is_one(named: str) -> None:
    assert find_source("data.source", named) == Source("data.source", named)


def test_hub_is_read_as_a_directory_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = datasets.load_dataset(str(snli(tmp_path / "snli", SNLI_ROWS)), streaming=True)
    monkeypatch.setattr(datasets, "load_dataset", {SNLI: splits}.__getitem__)
    monkeypatch.setattr(sentence_sources, "hub_fault", lambda name, kind: None)
    assert read_training_pairs("snli", find_source("data.source", SNLI)).second == ["a dog", "a cat"]


@pytest.mark.skipif(not (DATA / "snli").is_dir(), reason=f"needs the Parquet files in {DATA}")
def test_real_pairs_are_as_many_as_they_should_be() -> None:
    pairs = read_training_pairs("snli", find_source("data.source", str(DATA / "snli")))
    assert len(pairs.first) == len(pairs.second) == 6666
    scored = read_scored_pairs(find_source("data.scored_pairs", str(DATA / "stsb")))
    assert [len(scored[split].first) for split in ("validation", "test")] == [1500, 1379]
    assert find_source("data.scored_pairs", STSB).files == ()


def test_csv_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    """With a byte order mark and the newlines of Windows, under a name in capitals."""
    content = '\ufeffsentence1,sentence2\r\na dog,the dog\r\n"a, b",c\r\n'
    (tmp_path / "PAIRS.CSV").write_bytes(content.encode())
    pairs = own_pairs(tmp_path / "PAIRS.CSV")
    assert pairs.first == ["a dog", "a, b"] and pairs.second == ["the dog", "c"]


@pytest.mark.parametrize(
    ("row", "fields"),
    [("a cat,the cat,a kitten", 3), ("a cat,the cat,", 3), ("a cat", 1), ('"a, cat"', 1)],
)
@pytest.mark.parametrize("before", [1, 0], ids=["one row", "all rows"])
def test_row_with_other_fields_than_the_header_is_refused(
    tmp_path: Path, row: str, fields: int, before: int
) -> None:
    """Above all where all rows have one more, which pandas takes for an index."""
    lines = ["sentence1,sentence2", *['"a, dog",the dog'] * before, "", row, row]
    content = "\n".join(lines) + "\n\n"
    path = tmp_path / "pairs.csv"
    path.write_text(content)
    (tmp_path / "pairs").mkdir()
    of_directory = tmp_path / "pairs/train.csv"
    of_directory.write_text(content)
    for source, file in ((path, path), (tmp_path / "pairs", of_directory)):
        with pytest.raises(DataError) as caught:
            own_pairs(source)
        assert str(caught.value).startswith(
            f"data.source: row {before} of {file}: it has {fields} field(s), but the header has 2, "
            "sentence1, sentence2; put a sentence with a comma in it between double quotes"
        )


def test_row_that_lacks_a_field_does_not_shift(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("sentence1,sentence2,note\na,b,\nthe dog,a note\n")
    with pytest.raises(DataError, match=r"row 1 of .*: it has 2 field\(s\), but the header has 3"):
        own_pairs(tmp_path / "pairs.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            'sentence1,sentence2\na,b\n"a dog,c\nd,e\n',
            "read as csv in UTF-8, after line 2: unexpected end",
        ),
        ('sentence1,sentence2\n"a" dog,b\nd,e\n', "cannot be read as csv in UTF-8, after line 1: "),
        ("", "cannot be read as csv in UTF-8: it is empty"),
        (
            "sentence1,sentence1,sentence2\na,b,c\nd,e,f\n",
            "has more than one column sentence1; rename one",
        ),
    ],
)
def test_damaged_csv_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "pairs.csv").write_text(content)
    with pytest.raises(DataError) as caught:
        own_pairs(tmp_path / "pairs.csv")
    assert message in str(caught.value) and str(tmp_path / "pairs.csv") in str(caught.value)


@pytest.mark.parametrize("places", [("train.csv",), ("train-00001.csv",), ("Train/x.csv",)])
def test_csv_of_a_directory_is_text_as_that_of_a_file_is(tmp_path: Path, places: tuple[str]) -> None:
    directory = tmp_path / "pairs"
    rows = [("1984", "NA"), ("7", "null")]
    (directory / places[0]).parent.mkdir(parents=True)
    write_csv(directory / places[0], PAIRS, rows)
    write_csv(directory / "test.csv", PAIRS, [("c", "d")])
    (directory / ".ipynb_checkpoints").mkdir()
    write_csv(directory / ".ipynb_checkpoints/train-checkpoint.csv", PAIRS, [("e", "f")])
    pairs = own_pairs(directory)
    assert [*zip(pairs.first, pairs.second, strict=True)] == rows


def test_csv_files_of_one_split_follow_each_other(tmp_path: Path) -> None:
    directory = tmp_path / "scored [1]"
    (directory / "test").mkdir(parents=True)
    write_csv(directory / "validation-0.csv", SCORED[:3], [("NA", "1", 1)])
    write_csv(directory / "validation-1.csv", SCORED[:3], [("c", "d", 0.5)])
    write_csv(directory / "test/0.csv", SCORED[:3], [("e", "f", 0), ("g", "h", 0.25)])
    found = scored_pairs(directory)
    assert found["validation"].first == ["NA", "c"] and found["test"].second == ["f", "h"]
    write_csv(directory / "validation-1.csv", SCORED[:3], [("c", "d", 1)])
    with pytest.raises(DataError, match=r"split validation of .* has fewer than two different scores"):
        scored_pairs(directory)
    write_csv(directory / "validation-1.csv", PAIRS, [("c", "d")])
    with pytest.raises(DataError, match=r"validation-1\.csv has the columns sentence1, sentence2, but "):
        scored_pairs(directory)


def test_csv_directory_of_links_is_read_by_their_names(tmp_path: Path) -> None:
    """As the hub's own downloads are."""
    (tmp_path / "pairs").mkdir()
    write_csv(tmp_path / "blob", PAIRS, [("1984", "b"), ("c", "d")])
    (tmp_path / "pairs/train.csv").symlink_to(tmp_path / "blob")
    assert own_pairs(tmp_path / "pairs").first == ["1984", "c"]


def test_csv_directory_that_lacks_rows_is_refused(tmp_path: Path) -> None:
    directory = snli(tmp_path / "snli", SNLI_ROWS, ".csv")
    write_csv(directory / "train.csv", ("premise", "hypothesis", "label"), [])
    with pytest.raises(DataError, match=r"split train of .*snli has no rows"):
        training_pairs(directory)
    (directory / "train.csv").unlink()
    with pytest.raises(
        DataError, match=r"has no split train, only \w+, \w+; its files are told apart by"
    ):
        training_pairs(directory)


def test_directory_of_two_kinds_of_files_is_refused(tmp_path: Path) -> None:
    directory = snli(tmp_path / "snli", SNLI_ROWS)
    write_csv(directory / "more.csv", PAIRS, [("a", "b")])
    with pytest.raises(
        DataError, match=r"^data\.source: .*snli has both \.csv and \.parquet files \(more"
    ):
        training_pairs(directory)


@pytest.mark.parametrize("invisible", ["\u200b", "\ufeff\u00ad", " \u2060\u00a0\t", "\u3000"])
def test_sentence_of_nothing_visible_is_empty(tmp_path: Path, invisible: str) -> None:
    rows = [(f"a{invisible}", "b"), ("c", invisible)]
    with pytest.raises(DataError, match=r"row 1 of .*: sentence2 is empty"):
        own_pairs(write_csv(tmp_path / "pairs.csv", PAIRS, rows))
