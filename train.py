"""Trains what a config says.

python train.py --config=configs/quickstart.py --workdir=runs/quickstart [--config.batch_size=16 ...]

The same command goes on after an interruption. On several hosts: --distributed, on a cluster that JAX knows, or with
--coordinator=HOST:PORT --processes=N --process=I.
"""

import sys

from absl import app, flags, logging
from ml_collections import config_flags

from jaxvision import config as configs
from jaxvision.train.memory import keep_memory

_CONFIG = config_flags.DEFINE_config_file("config", help_string="the recipe, a file of configs/")
_WORKDIR = flags.DEFINE_string("workdir", None, "where checkpoints, metrics and pictures go")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "train on several hosts")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where JAX cannot find it out")
_PROCESSES = flags.DEFINE_integer("processes", None, "how many processes there are")
_PROCESS = flags.DEFINE_integer("process", None, "which of them this is")
flags.mark_flags_as_required(["config", "workdir"])


def parse(arguments: list[str]) -> list[str]:
    """absl's own parsing, but keys of architecture, losses and transforms need not stand in the recipe, and a key that no
    config has is an error of one line."""
    sys.argv, opened = configs.split_arguments(arguments)  # config_flags reads sys.argv too
    try:
        rest = flags.FLAGS(sys.argv)
    except (AttributeError, KeyError) as error:
        sys.exit(configs.unknown_override(arguments) or f"{type(error).__name__}: {error}")
    except flags.Error as error:
        sys.exit(f"{error}\n{__doc__}")
    for key, value in opened:
        configs.set_open(_CONFIG.value, key, value)
    return rest


def main(_):
    logging.set_verbosity(logging.ERROR)  # orbax and grain tell of every file they touch
    keep_memory()
    import jax

    from jaxvision.train.stages import run

    if _DISTRIBUTED.value or _COORDINATOR.value:
        jax.distributed.initialize(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    try:
        run(_CONFIG.value, _WORKDIR.value)
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
