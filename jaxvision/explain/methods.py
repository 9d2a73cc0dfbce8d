"""The methods of `jaxvision explain`, by what they give: maps over the image, signals at its pixels, or pictures of channels."""

MAPS = ("gradcam", "hirescam", "counterfactual", "cam")
SIGNALS = ("guided_gradcam", "guided", "gradient")
CHANNELS = ("deconvnet", "features")
METHODS = (*MAPS, *SIGNALS, *CHANNELS)
