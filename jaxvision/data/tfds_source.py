"""Prepared sets of TensorFlow Datasets, read without TensorFlow from what is stored as ArrayRecord."""

import functools
import os

import numpy as np
import tensorflow_datasets as tfds


class TfdsSource:
    """Random access to one split of a prepared builder; a subclass makes the examples of its records.

    builder: its name, "voc/2012" to choose a config. split: a name, or a slice or a sum as TFDS writes them. data_dir: TFDS's
    folder, by default ~/tensorflow_datasets. image: the feature that is the picture; truth: the one that must be there.
    A pickled copy opens its files again where it is used.
    Raises ValueError for another split, a config without that truth, or one prepared in another file format, and
    FileNotFoundError, which says how to prepare it, for one that is not there.
    """

    keypoint_names = flip_pairs = ()
    sigmas = sizes = None

    def __init__(self, builder: str, split: str, data_dir: str | None, image: str, truth: str):
        self._builder, self._split, self._data_dir = builder, split, data_dir
        self._image, self._truth = image, truth
        self.name = f"tfds/{builder}"
        self.image_ids = np.arange(len(self._records))

    def example(self, i: int, record: dict) -> dict:
        """The example of a record without its image, which is bytes where it was not decoded."""
        raise NotImplementedError

    def where(self, file) -> str:
        """What an example is called in messages."""
        return f"{self.name}/{self._split}#{file}"

    def __getstate__(self):
        return {key: value for key, value in vars(self).items() if key not in ("_records", "_annotations")}

    def __len__(self):
        return len(self.image_ids)

    def __getitem__(self, i):
        record = self._records[int(i)]
        return {"image": record[self._image], **self.example(i, record)}

    def annotations(self, i):
        """The example without its image, which is not decoded."""
        return self.example(i, self._annotations[int(i)])

    @property
    def builder(self) -> tfds.core.DatasetBuilder:
        return tfds.builder(self._builder, data_dir=self._data_dir)

    @functools.cached_property
    def _records(self):
        return self._open()

    @functools.cached_property
    def _annotations(self):
        return self._open(decoders={self._image: tfds.decode.SkipDecoding()})

    def _open(self, **options):
        builder = self.builder
        if self._truth not in builder.info.features:
            raise ValueError(f"{self._builder} has no {self._truth}; take another config of it")
        try:
            return builder.as_data_source(split=self._split, **options)
        except (ValueError, NotImplementedError) as error:
            if not builder.data_path.exists():
                raise FileNotFoundError(f"{self._builder} is not there. {_how_to_prepare(builder)}") from error
            if isinstance(error, ValueError):
                raise  # an unknown split: TFDS names those that exist
            raise ValueError(
                f"{builder.data_path} is in the format {builder.info.file_format.value}, which has no random access: "
                f"remove it, or take another data.dir. {_how_to_prepare(builder)}"
            ) from error


def _how_to_prepare(builder) -> str:
    root, manual = builder.data_dir_root, builder.MANUAL_DOWNLOAD_INSTRUCTIONS or ""
    if manual:
        manual = f"{' '.join(manual.split())} Put them into {os.path.join(root, 'downloads', 'manual')}. "
    name = "/".join(builder.info.full_name.split("/")[:-1])  # without its version
    return (
        f'{manual}Prepare it once, where TensorFlow is installed (reading does not take it): python -c "import '
        f"tensorflow_datasets as tfds; tfds.builder('{name}', data_dir='{root}')"
        ".download_and_prepare(file_format='array_record')\""
    )
