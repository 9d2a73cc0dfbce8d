import pickle

import numpy as np
import pytest
from devkits import pictures

from jaxvision.data.images import ImageError, write_image
from jaxvision.data.loader import Batches
from jaxvision.data.sources import Source, open_source


def write(root, counts):
    """Pictures by the names of their classes."""
    made = {}
    for (name, count), start in zip(counts.items(), range(0, 100, 10)):
        (root / name).mkdir(parents=True)
        for n, (picture, _) in enumerate(pictures(count, seed=start)):
            made[f"{name}/{n}.png"] = picture
            write_image(root / name / f"{n}.png", picture)
    return made


def test_folders_are_classes(tmp_path):
    made = write(tmp_path / "set", {"dog": 2, "cat": 3, "an elk": 1})
    for noise in ("cat/notes.txt", "dog/.0.png", "loose.png"):
        (tmp_path / "set" / noise).write_text("passed over")
    (tmp_path / "set" / ".git").mkdir()
    source = pickle.loads(pickle.dumps(open_source("folder", "set", str(tmp_path))))
    assert isinstance(source, Source) and source.class_names == ("an elk", "cat", "dog") and len(source) == 6
    assert [source.annotations(i)["label"] for i in range(6)] == [0, 1, 1, 1, 2, 2]
    assert source.sizes.tolist() == [[48, 64]] * 6
    for i in range(6):
        name = source[i]["file"].partition("/set/")[2]
        np.testing.assert_array_equal(source[i]["image"], made[name])
        assert name.startswith(source.class_names[source[i]["label"]]) and source[i]["image_id"] == i
    (tmp_path / "set" / "cat" / "more").mkdir()
    write_image(tmp_path / "set" / "cat" / "more" / "9.jpg", made["cat/0.png"])
    assert len(open_source(f"folder:{tmp_path}/set")) == 7


def test_splits_are_folders_of_the_root(tmp_path):
    for split, counts in ("train", {"a": 2, "b": 2}), ("val", {"a": 1, "b": 1}):
        write(tmp_path / "set" / split, counts)
    assert len(open_source(f"folder:{tmp_path}/set", "train")) == 4
    assert len(open_source("folder:set", "val", str(tmp_path))) == 2
    assert len(open_source("folder", "set/val", str(tmp_path))) == 2


def test_what_is_no_set_of_classes_is_named(tmp_path):
    write(tmp_path / "one", {"cat": 2})
    with pytest.raises(ValueError, match=r"one has one folder, 'cat' in it, and a classifier needs two classes"):
        open_source(f"folder:{tmp_path}/one")
    (tmp_path / "one" / "dog").mkdir()
    with pytest.raises(ValueError, match=r"one has no pictures \(\.jpg, .*\) of dog; add some"):
        open_source(f"folder:{tmp_path}/one")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        open_source(f"folder:{tmp_path}/nowhere")


def test_a_file_that_cannot_be_read_is_named_or_passed_over(tmp_path):
    write(tmp_path, {"a": 2, "b": 2})
    whole = (tmp_path / "b" / "0.png").read_bytes()
    options = {"batch_size": 4, "fields": ("label",), "canvases": [(48, 64)]}
    for content, message in ((whole[:-20], "the PNG is cut off"), (b"", "not a picture"), (b"<html>", "not a picture")):
        (tmp_path / "b" / "0.png").write_bytes(content)
        source = open_source(f"folder:{tmp_path}")
        with pytest.raises(ImageError, match=rf"b/0\.png: {message}"):
            Batches(source, **options)[0]
        batch = Batches(source, **options, skip_bad=True)[0]
        assert batch["image_id"][batch["real"]].tolist() == [0, 1, 3] and batch["skipped"].sum() == 1


def test_a_table_of_several_labels(tmp_path):
    made = write(tmp_path, {"images": 3})
    rows = ["file,cat, dog ,tree", "0.png,1,0,1", "2.png,0,0,0", "", "1.png, 1,1 ,0"]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    source = pickle.loads(pickle.dumps(open_source("folder", "images:labels.csv", str(tmp_path))))
    assert source.class_names == ("cat", "dog", "tree") and len(source) == 3
    labels = [[1, 0, 1], [0, 0, 0], [1, 1, 0]]
    for i, (name, wanted) in enumerate(zip(("0.png", "2.png", "1.png"), labels)):
        np.testing.assert_array_equal(source[i]["image"], made[f"images/{name}"])
        assert source[i]["labels"].tolist() == [bool(x) for x in wanted]
    batch = Batches(source, batch_size=3, fields=("labels",), canvases=[(48, 64)])[0]
    assert batch["labels"].tolist() == [[bool(x) for x in row] for row in labels]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r"labels\.csv: expected a first line of 'file' and the classes' names, .* got 0 lines"),
        (["file,cat,dog"], "got 1 lines and the classes cat, dog"),
        (["file", "0.png"], "the classes none"),
        (["file,cat,cat", "0.png,1,0"], "each once"),
        (["file,cat,dog", "0.png,1,2"], r"labels\.csv, row 2 \(0\.png\): expected 2 cells of 0 or 1, got 1, 2"),
        (["file,cat,dog", "0.png,1,0", "1.png,1"], r"row 3 \(1\.png\): expected 2 cells of 0 or 1, got 1$"),
        (["file,cat,dog", "0.png,1,0", "0.png,1,1"], r"row 3: 0\.png is listed in row 2 already"),
        (["file,cat,dog", "7.png,1,0"], r"row 2: there is no file .*images/7\.png"),
    ],
)
def test_tables_that_cannot_be_meant(lines, message, tmp_path):
    write(tmp_path, {"images": 2})
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_source("folder", "images:labels.csv", str(tmp_path))
