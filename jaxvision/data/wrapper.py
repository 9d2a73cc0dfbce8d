"""A source around another."""

from jaxvision.data.sources import Source


class Wrapper:
    """What a source is that changes another's examples: the other itself, in all that it does not say otherwise."""

    def __init__(self, source: Source):
        self.source = source

    def __getattr__(self, name: str):
        if name == "source" or name.startswith("__"):  # while a copy is unpickled there is none yet
            raise AttributeError(name)
        return getattr(self.source, name)

    def __getstate__(self):
        return {key: value for key, value in vars(self).items() if key != "_records"}  # files are opened anew

    def __setstate__(self, state):
        vars(self).update(state)

    def __len__(self) -> int:
        return len(self.source)
