import jax
import numpy as np

from jaxvision.ops.images import colours, normalize

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_normalises_and_pads_with_the_mean():
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)
    size = np.array([[5, 7], [3, 4]])
    out = jax.jit(normalize, static_argnums=(2, 3))(image, size, MEAN, STD)
    expected = (image / 255 - MEAN) / STD
    expected[1, 3:] = expected[1, :, 4:] = 0
    np.testing.assert_allclose(out, expected, atol=1e-5)
    np.testing.assert_allclose(normalize((image / 255).astype(np.float32), size, MEAN, STD), out, atol=1e-5)
    assert out.dtype == np.float32


def test_one_image_and_no_size():
    image = np.full((4, 4, 3), 0.5, np.float32)
    np.testing.assert_allclose(normalize(image, None, 0.5, 0.5), 0)
    np.testing.assert_allclose(normalize(image, np.array([2, 4]), 0.0, 1.0)[:, 0, 0], [0.5, 0.5, 0, 0])


def test_colours_are_in_0_to_255_whatever_the_dtype():
    image = np.random.default_rng(1).integers(0, 256, (2, 3, 3)).astype(np.uint8)
    found = jax.jit(colours)(image)
    np.testing.assert_array_equal(found, image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(jax.jit(colours)(image.astype(np.float32) / 255), image, rtol=1e-6)
