"""Changes of colour of a picture (H, W, 3) float32 in 0..1; an amount of 0 leaves it as it is. The result may leave 0..1."""

import cv2


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
