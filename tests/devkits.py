"""Sets in the forms in which they are handed out, written by hand: PNGs with a palette, VOC, SBD, folders."""

import struct
import zlib

import numpy as np

from jaxvision.data.images import write_image

_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))  # y x dy dx


def voc_palette() -> np.ndarray:
    """(256, 3) uint8: VOC's colours, an index's bits dealt to red, green and blue from the highest down."""
    palette = np.zeros((256, 3), np.uint8)
    for index in range(256):
        for bit in range(8):
            palette[index, bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return palette


def png(values, depth=8, palette=None, interlaced=False, filters=(0, 1, 2, 3, 4)) -> bytes:
    """A PNG of values (H, W), indices where there is a palette (n, 3), else grey; or of (H, W, 3) colours.

    Rows take the filters in turn.
    """
    values = np.asarray(values)
    colour = 2 if values.ndim == 3 else 0 if palette is None else 3
    height, width = values.shape[:2]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    data = b"".join(_scan(values[y::dy, x::dx], depth, filters) for y, x, dy, dx in passes)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced)))]
    if palette is not None:
        chunks.append((b"PLTE", np.asarray(palette, np.uint8).tobytes()))
    half = zlib.compress(data)
    chunks += [(b"IDAT", half[:20]), (b"IDAT", half[20:]), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def _scan(values, depth, filters) -> bytes:
    if not values.size:
        return b""
    pixel = max(1, depth // 8) * (3 if values.ndim == 3 else 1)
    rows, above = [], None
    for n, row in enumerate(values.reshape(len(values), -1)):
        bits = "".join(f"{value:0{depth}b}" for value in row.tolist())
        bits += "0" * (-len(bits) % 8)
        line = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
        above = above or [0] * len(line)
        kind, out = filters[n % len(filters)], []
        for i, value in enumerate(line):
            a, b, c = (line[i - pixel], above[i], above[i - pixel]) if i >= pixel else (0, above[i], 0)
            nearest = min((a, b, c), key=lambda x, p=a + b - c: abs(p - x))
            out.append((value - (0, a, b, (a + b) // 2, nearest)[kind]) % 256)
        rows.append(bytes([kind, *out]))
        above = line
    return b"".join(rows)


def pictures(count, size=(48, 64), classes=21, seed=0):
    """Smooth pictures and maps of classes with a border of 255 somewhere, the same for a seed."""
    rng = np.random.default_rng(seed)
    height, width = size
    for _ in range(count):
        ramp = np.linspace(0, 200, height * width * 3).reshape(height, width, 3)
        values = np.zeros(size, np.uint8)
        for _ in range(3):
            y, x = rng.integers(0, height - 12), rng.integers(0, width - 12)
            values[y : y + 12, x : x + 12] = rng.integers(1, classes)
        values[-3:] = 255
        yield (ramp + rng.integers(0, 50)).astype(np.uint8), values


def write_voc(root, splits=(("train", 4), ("val", 3)), **options):
    """The devkit's folder of a year; returns {split: [(picture, map)]}."""
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (root / folder).mkdir(parents=True)
    written = {}
    for seed, (split, count) in enumerate(splits):
        written[split] = list(pictures(count, seed=seed, **options))
        names = [f"2007_{100 * seed + n:06d}" for n in range(count)]
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name, (picture, values) in zip(names, written[split]):
            write_image(root / f"JPEGImages/{name}.jpg", picture)
            (root / f"SegmentationClass/{name}.png").write_bytes(png(values, palette=voc_palette()))
    return written


def write_folder(root, count=4, classes=4, names=("sky", "road", "tree", "car"), **options):
    """`images` and `masks` in root, grey masks; returns [(picture, map)]."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    written = list(pictures(count, classes=classes, **options))
    for n, (picture, values) in enumerate(written):
        write_image(root / f"images/{n}.png", picture)
        (root / f"masks/{n}.png").write_bytes(png(values))
    if names:
        (root / "masks" / "classes.txt").write_text("\n".join(names) + "\n")
    return written


def voc_xml(name, size, objects):
    """An annotation of VOC's devkit; objects: (class, (xmin, ymin, xmax, ymax), difficult)."""
    lines = ["<annotation>", "\t<folder>VOC2007</folder>", f"\t<filename>{name}.jpg</filename>", "\t<size>"]
    lines += [f"\t\t<width>{size[1]}</width>", f"\t\t<height>{size[0]}</height>", "\t\t<depth>3</depth>", "\t</size>"]
    for label, box, difficult in objects:
        sides = zip(("xmax", "xmin", "ymax", "ymin"), (box[2], box[0], box[3], box[1]))  # in any order
        lines += ["\t<object>", f"\t\t<name>{label}</name>", "\t\t<pose>Unspecified</pose>"]
        lines += ["\t\t<truncated>1</truncated>", f"\t\t<difficult>{difficult}</difficult>", "\t\t<bndbox>"]
        lines += [f"\t\t\t<{side}>{value}</{side}>" for side, value in sides] + ["\t\t</bndbox>"]
        if label == "person":
            lines += ["\t\t<part>", "\t\t\t<name>head</name>", "\t\t\t<bndbox><xmin>1</xmin><ymin>1</ymin>"]
            lines += ["\t\t\t<xmax>9</xmax><ymax>9</ymax></bndbox>", "\t\t</part>"]
        lines += ["\t</object>"]
    return "\n".join([*lines, "</annotation>"])


def write_voc_detection(root, written, year="2007"):
    """The devkit's folder of a year with `written`, {split: [(picture, objects)]}, and the lists of a class beside."""
    for folder in ("ImageSets/Main", "JPEGImages", "Annotations"):
        (root / folder).mkdir(parents=True)
    for seed, (split, examples) in enumerate(written.items()):
        names = [f"{year}_{100 * seed + n:06d}" for n in range(len(examples))]
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{name}\n" for name in names))
        (root / f"ImageSets/Main/cat_{split}.txt").write_text("".join(f"{name} -1\n" for name in names))
        for name, (picture, objects) in zip(names, examples):
            write_image(root / f"JPEGImages/{name}.jpg", picture)
            (root / f"Annotations/{name}.xml").write_text(voc_xml(name, picture.shape, objects))
