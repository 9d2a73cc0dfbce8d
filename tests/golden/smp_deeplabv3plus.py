"""Writes golden outputs of segmentation_models.pytorch's DeepLabV3Plus for the formula's weights.

    python tests/golden/smp_deeplabv3plus.py        (with torch, torchvision and segmentation_models_pytorch 0.6)

The network is left as that package builds it, but for one thing: where a stage trades its stride for a dilation, the first
block keeps the dilation of the stage before, as torchvision has it.
"""

import json
import pathlib

import formula
import numpy as np
import segmentation_models_pytorch as smp
import torch

HERE = pathlib.Path(__file__).parent
FIRST = {16: {"layer4": 1}, 8: {"layer3": 1, "layer4": 2}}


@torch.no_grad()
def main():
    image = torch.from_numpy(formula.image("segment", 64, 96))
    image = (image - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    outputs = {}
    for stride, first in FIRST.items():
        model = smp.DeepLabV3Plus("resnet50", encoder_weights=None, classes=5, encoder_output_stride=stride).eval()
        for stage, dilation in first.items():
            conv = getattr(model.encoder, stage)[0].conv2
            conv.dilation = conv.padding = (dilation, dilation)
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        model.load_state_dict({name: torch.from_numpy(formula.tensor(name, shape)) for name, shape in shapes.items()})
        outputs[f"stride{stride}"] = model(image.permute(2, 0, 1)[None].contiguous()).numpy()
    np.savez_compressed(HERE / "smp_deeplabv3plus.npz", **outputs)
    (HERE / "smp_deeplabv3plus.shapes.json").write_text(json.dumps(shapes))


if __name__ == "__main__":
    main()
