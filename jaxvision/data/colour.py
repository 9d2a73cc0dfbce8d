"""Changes of colour of a picture (H, W, 3) float32 in 0..1; an amount of 0 leaves it as it is. The result may leave 0..1."""

import cv2
import numpy as np


def _grey(image):
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def brightness(image, amount):
    return image * (1 + amount)


def contrast(image, amount):
    mean = _grey(image).mean()
    return mean + (image - mean) * (1 + amount)


def saturation(image, amount):
    grey = _grey(image)[..., None]
    return grey + (image - grey) * (1 + amount)


def hue(image, amount):
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)  # hue in degrees for float pictures
    hsv[..., 0] = (hsv[..., 0] + 360 * amount) % 360
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def shift(image, amount):
    return image + amount


def hsv_scaled(image, saturation, value):
    """Saturation and value of the HSV model (the greatest of the three colours) times these factors, cut at 1."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 1:] = np.minimum(hsv[..., 1:] * np.array([saturation, value], np.float32), 1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def hsv_saturation(image, amount):
    return hsv_scaled(image, 1 + amount, 1)
