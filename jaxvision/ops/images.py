"""What happens to a picture before the first convolution."""

import jax.numpy as jnp
from jax import Array


def normalize(image: Array, image_size: Array | None, mean, std) -> Array:
    """(image - mean) / std as float32, for images (..., H, W, 3) uint8 in 0..255 or floating in 0..1.

    uint8 is divided by 255; the dtype alone decides. Beyond `image_size` (..., 2), the height and width of the part
    that holds the picture, the result is 0, the mean colour: torchvision pads after it normalises.
    """
    scale = 255 if image.dtype == jnp.uint8 else 1
    image = (image.astype(jnp.float32) / scale - jnp.array(mean, jnp.float32)) / jnp.array(std, jnp.float32)
    if image_size is None:
        return image
    height, width = image.shape[-3:-1]
    rows = jnp.arange(height) < image_size[..., :1]
    columns = jnp.arange(width) < image_size[..., 1:]
    return jnp.where((rows[..., :, None] & columns[..., None, :])[..., None], image, 0)


def colours(image: Array) -> Array:
    """Images of RGB uint8 in 0..255 or floating in 0..1 as float32 in 0..255: what the deviations of a CRF are of."""
    return image.astype(jnp.float32) * (1 if image.dtype == jnp.uint8 else 255)


def mirror(image: Array, image_size: Array, before: tuple[int, int], size: tuple[int, int]) -> Array:
    """Images (B, H, W, C) continued by their mirror images to (B, *size, C), `before` pixels above and to the left.

    image_size (B, 2): height and width of the part that holds the picture; it is mirrored at its own border, which is not
    repeated, as often as it takes. What the canvas has beyond it is not read.
    """
    for axis, (first, count) in enumerate(zip(before, size), 1):
        extent = image_size[:, axis - 1, None]
        period = jnp.maximum(2 * (extent - 1), 1)
        place = abs(jnp.arange(count) - first) % period
        place = jnp.where(place < extent, place, period - place)
        image = jnp.take_along_axis(
            image, place.reshape((len(image),) + (1,) * (axis - 1) + (-1,) + (1,) * (3 - axis)), axis
        )
    return image
