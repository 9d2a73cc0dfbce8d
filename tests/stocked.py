"""TFDS's builders with a few records in place of their sets: encoded and decoded by their features, or prepared by them."""

import contextlib
import importlib.resources.abc
import io
import sys

import cv2
import tensorflow_datasets as tfds


def encoded(picture, suffix=".jpg"):
    return io.BytesIO(cv2.imencode(suffix, picture[..., ::-1])[1].tobytes())


class Samples:
    """What `as_data_source` gives for stored records: decoded by the builder's features."""

    def __init__(self, features, stored, decoders):
        self.features, self.stored, self.decoders = features, stored, decoders

    def __len__(self):
        return len(self.stored)

    def __getitem__(self, i):
        return self.features.deserialize_example_np(self.stored[i], decoders=self.decoders)


@contextlib.contextmanager
def stocked(records):
    """Has TFDS's builders give these records, encoded by their own features, whatever the split."""
    stored = []

    def as_data_source(self, split=None, *, decoders=None, **_):
        features = self.info.features
        if not stored:  # pictures are streams, which can be read once
            stored.extend(features.serialize_example(features.encode_example(record)) for record in records)
        return Samples(features, stored, decoders)

    with tfds.testing.mock_data(as_data_source_fn=as_data_source):
        yield


def prepare(monkeypatch, builder, records, data_dir, label_names=()):
    """Has TFDS's builder write the records; downloading, where some sets find their labels' names, is left out."""
    cls = tfds.builder_cls(builder)
    splits = {"train": records, "test": records[:1]}
    monkeypatch.setattr(
        cls, "_split_generators", lambda self, _: {k: self._generate_examples(v) for k, v in splits.items()}
    )
    monkeypatch.setattr(cls, "_generate_examples", lambda self, records: enumerate(records))
    monkeypatch.setitem(sys.modules, "importlib_resources", importlib.resources)  # which TFDS does not install
    tfds.disable_progress_bar()
    builder = tfds.builder(builder, data_dir=data_dir)
    if label_names:
        builder.info.features["label"].names = label_names
    builder.download_and_prepare(file_format="array_record")
