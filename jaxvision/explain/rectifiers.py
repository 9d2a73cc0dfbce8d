"""What a ReLU lets back: three rules, for any function of JAX, so that no model need know of them.

  gradient   what came in through it while it was open, x > 0
  deconvnet  what is positive of the signal itself, whether it was open or not (Zeiler & Fergus, "Visualizing and
             Understanding Convolutional Networks", ECCV 2014)
  guided     both (Springenberg et al., "Striving for Simplicity: The All Convolutional Net", ICLR 2015)

The function is traced, and its steps are taken again one by one with other ReLUs: `nn.relu`, `nn.relu6` and `max(x, 0)`, and
`nn.leaky_relu`, whose slope takes the place of open and closed. A gate such as hard-swish keeps its gradient.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

RULES = ("gradient", "deconvnet", "guided")
RECTIFIERS = ("relu", "relu6", "leaky_relu")
GATES = ("hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh")  # their parts are ReLUs by name only
CALLS = ("jit", "pjit", "remat", "remat2", "checkpoint")


def with_rule(function: Callable, rule: str) -> Callable:
    """The function, whose ReLUs pass signals back by `rule`; its values are the same.

    Raises ValueError for another rule, and where it is called: for a function without any ReLU, of which all three are the
    gradient, and for ReLUs in a loop or a branch (`scan`, `cond`), where they are not found.
    """
    if rule not in RULES:
        raise ValueError(f"The rule {rule!r} is not one of {', '.join(RULES)}.")
    if rule == "gradient":
        return function

    def ruled(*arguments):
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        found = []
        results = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(arguments), rule, found)
        if not found:
            raise ValueError(f"There is no ReLU to be ruled by {rule!r}: take the gradient.")
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return ruled


def _evaluate(jaxpr, consts, arguments, rule, found):
    """The values of a jaxpr's results; every ReLU is added to `found`."""
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments)))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else values[atom]

    for step in jaxpr.eqns:
        inputs, place = [read(atom) for atom in step.invars], _rectified(step)
        if place is not None:
            found.append(step)
            results = [_rectify(step, inputs, place, rule)]
        elif step.primitive.name in CALLS and step.params.get("name") not in GATES:
            inner = step.params["jaxpr"]
            results = _evaluate(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs, rule, found)
        else:
            if step.primitive.name in ("scan", "cond") and "name=relu" in str(step):
                raise ValueError(f"A ReLU in a {step.primitive.name} cannot be ruled: write the network without it.")
            results = _take(step, inputs)
        values.update(zip(step.outvars, results))
    return [read(atom) for atom in jaxpr.outvars]


def _take(step, inputs):
    parameters = step.primitive.get_bind_params(step.params)
    functions, parameters = (
        parameters if isinstance(parameters, tuple) else ((), parameters)
    )  # up to jax 0.9, and since
    results = step.primitive.bind(*functions, *inputs, **parameters)
    return results if step.primitive.multiple_results else [results]


def _rectified(step) -> int | None:
    """Which input a step rectifies, or None."""
    if step.primitive.name == "max" and jnp.issubdtype(step.outvars[0].aval.dtype, jnp.floating):
        zeros = [isinstance(atom, Literal) and jnp.ndim(atom.val) == 0 and atom.val == 0 for atom in step.invars]
        return zeros.index(False) if any(zeros) else None
    name = step.params.get("name")
    if step.primitive.name == "custom_jvp_call":
        inner = step.params["call_jaxpr"].jaxpr.eqns
        name = inner[0].params.get("name") if len(inner) == 1 else None
    return 0 if name in RECTIFIERS else None


def _rectify(step, inputs, place, rule):
    def plain(x):
        return _take(step, [*inputs[:place], x, *inputs[place + 1 :]])[0]

    @jax.custom_vjp
    def relu(x):
        return plain(x)

    def forward(x):
        return jax.jvp(plain, (x,), (jnp.ones_like(x),))  # its value and its slope

    def backward(slope, signal):
        signal = jnp.maximum(signal, 0)
        return (signal * slope if rule == "guided" else signal,)

    relu.defvjp(forward, backward)
    return relu(inputs[place])
