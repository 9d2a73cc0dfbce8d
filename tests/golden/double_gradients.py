"""Replace the gradients in golden files by torchvision's own in float64.

    python3 tests/golden/double_gradients.py NAME...     (with an interpreter that has torchvision 0.14)

Through inverted residuals and SSD's unit vectors torchvision's float32 gradients differ from its float64 ones by more than
the 1e-3 that is asked of ours; what two libraries compute in float64 shows whether they compute the same.
"""

import pathlib
import sys

import formula
import numpy as np
import torch
from torchvision.models import detection

FOLDER = pathlib.Path(__file__).parent
SIZES = [(160, 200), (180, 120)]


def gradients(name: str, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By name, of the summed losses on both pictures: everything sampled, statistics and dropout as in evaluation."""
    options = {} if name.startswith("ssd") else {"min_size": 192, "max_size": 320}
    model = getattr(detection, name)(weights=None, weights_backbone=None, **options)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(value) for key, value in formula.state_dict(shapes).items()})
    model.double().train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.Dropout):
            module.eval()
    for part in ("rpn", "roi_heads"):
        if hasattr(model, part):
            sampler = getattr(model, part).fg_bg_sampler
            sampler.batch_size_per_image, sampler.positive_fraction = 10**7, 0.5
    images = [
        torch.from_numpy(formula.image(f"detect{i}", *size)).double().permute(2, 0, 1) for i, size in enumerate(SIZES)
    ]
    targets = [
        {
            "boxes": torch.from_numpy(found[f"target.boxes.{i}"]).double(),
            "labels": torch.from_numpy(found[f"target.labels.{i}"]),
        }
        for i in range(len(SIZES))
    ]
    sum(model(images, targets).values()).backward()
    return {key: value.grad.numpy() for key, value in model.named_parameters() if value.grad is not None}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        with np.load(FOLDER / f"{name}.npz") as file:
            found = dict(file)
        for key, value in gradients(name, found).items():
            entries = value.ravel()[:: max(1, value.size // 16)][:16]
            change = np.linalg.norm(value) / found[f"gradnorm.{key}"] - 1
            print(f"{name} {key}: norm {change:+.1e} from the file's")
            found[f"gradnorm.{key}"], found[f"grad16.{key}"] = np.linalg.norm(value), entries
        np.savez_compressed(FOLDER / f"{name}.npz", **found)
