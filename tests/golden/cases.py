"""The golden cases, a family a file. `add(op, variant, function, *inputs, **attrs)`: the function gets inputs and attrs."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

from oracle import Case, Hashed, Input, LongCase, constant, given, given_ids, ids, spread, uniform

CASES = []
nan, inf = np.nan, np.inf


def family(file):
    def add(op, variant, function, *inputs, oracle="PyTorch", gradient=True, **attrs):
        CASES.append(Case(file, op, variant, oracle, function, inputs, attrs, gradient))

    return add


# ---- binary: element-wise functions of two tensors ----------------------------------------------------------------

add = family("binary")
BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "pow": torch.pow,
}
for op, function in BINARY.items():
    positive = op == "pow"
    a = lambda *shape: uniform(shape, 0.1 if positive else -2.0, 3.0)
    b = lambda *shape: uniform(shape, 0.5 if op == "div" else -2.0, 3.0)
    add(op, "same shape", function, a(3, 5), b(3, 5))
    add(op, "both broadcast", function, a(3, 1, 4), b(2, 1))
    add(op, "rank 0 on the left", function, a(), b(2, 3))
    add(op, "rank 0 on the right", function, a(2, 3), b())
    add(op, "six axes", function, a(1, 2, 1, 2, 1, 3), b(2, 1, 2, 2, 1))
    add(op, "no element", function, a(2, 0, 3), b(1, 3))
add("div", "negative divisors", torch.div, uniform([6], 1.0, 3.0), uniform([6], -3.0, -0.1))
add("div", "special", torch.div, given([1, -1, 0, inf, inf, nan, 1]), given([0, 0, 0, inf, 2, 1, -inf]), gradient=False)
for op in ("maximum", "minimum"):
    add(op, "ties", BINARY[op], given([1, 2, -0.5, 0, 3]), given([1, 1, -0.5, 0, 4]))
    add(op, "special", BINARY[op], given([nan, 1, inf, -inf, nan]), given([1, nan, 1, 1, nan]), gradient=False)
add("pow", "negative base", torch.pow, given([-2, -1.5, -1, -0.5]), constant(given([3, 2, -2, 1])))
add("pow", "zero base", torch.pow, given([0, 0, 0, 2]), given([2, 1, 3, 0]))
add("pow", "zero to the zero", torch.pow, given([0, 2, -3]), constant(given([0, 0, 0])))
add("pow", "special", torch.pow, given([-2, 0, inf, 0.5, 2, nan, 1]), given([0.5, -1, -1, inf, -inf, 0, nan]), gradient=False)

# ---- compare: comparisons, logic and choices; 1 is true ------------------------------------------------------------

add = family("compare")
x, y = [1, 2, 3, nan, 1, inf, -inf, -0.0], [2, 2, 2, nan, nan, inf, inf, 0.0]
for op in ("eq", "ne", "lt", "le", "gt", "ge"):
    function = lambda a, b, op=op: getattr(torch, op)(a, b).double()
    add(op, "special", function, given(x), given(y), gradient=False)
    add(op, "both broadcast", function, given([[1], [2], [3]]), given([[[3, 1, 2]], [[2, 2, 0]]]), gradient=False)
for op in ("logical_and", "logical_or", "logical_xor"):
    function = lambda a, b, op=op: getattr(torch, op)(a, b).double()
    add(op, "special", function, given([0, 0, 1, 2, nan, -0.0, inf]), given([0, -3, 0, 0.5, 0, nan, 1]), gradient=False)
    add(op, "both broadcast", function, given([[0], [1.5]]), given([0, 1, -1]), gradient=False)
add("logical_not", "special", lambda x: torch.logical_not(x).double(), given([0, -0.0, 1, -2, nan, inf]), gradient=False)
where = lambda c, a, b: torch.where(c != 0, a, b)
add("where_cond", "same shape", where, constant(given([[1, 0, 1], [0, 0, 1]])), uniform([2, 3]), uniform([2, 3]))
add("where_cond", "all broadcast", where, constant(given([[1], [0]])), uniform([3, 1, 1]), uniform([1, 2, 4]))
add("where_cond", "rank 0", where, constant(given([0, 1, 1])), uniform([]), uniform([]))
add(
    "where_cond",
    "what is not chosen does not show",
    where,
    constant(given([1, 0, 1, 0])),
    given([1, nan, 2, inf]),
    given([nan, 3, -inf, 4]),
)

# ---- unary: element-wise functions of one tensor -------------------------------------------------------------------

add = family("unary")
UNARY = {  # the function, and where it is smooth
    "neg": (torch.neg, -3.0, 3.0),
    "exp": (torch.exp, -8.0, 8.0),
    "log": (torch.log, 0.01, 9.0),
    "sqrt": (torch.sqrt, 0.01, 9.0),
    "rsqrt": (torch.rsqrt, 0.01, 9.0),
    "recip": (torch.reciprocal, 0.1, 9.0),
    "abs": (torch.abs, -3.0, 3.0),
    "relu": (F.relu, -3.0, 3.0),
    "sigmoid": (torch.sigmoid, -9.0, 9.0),
    "tanh": (torch.tanh, -5.0, 5.0),
    "gelu": (F.gelu, -5.0, 5.0),
    "square": (torch.square, -3.0, 3.0),
    "leaky_relu": (F.leaky_relu, -3.0, 3.0),
    "elu": (F.elu, -4.0, 3.0),
    "silu": (F.silu, -9.0, 9.0),
    "hardswish": (F.hardswish, -5.0, 5.0),
    "softplus": (F.softplus, -9.0, 30.0),
    "erf": (torch.erf, -4.0, 4.0),
    "sin": (torch.sin, -7.0, 7.0),
    "cos": (torch.cos, -7.0, 7.0),
    "floor": (torch.floor, -3.3, 3.3),
    "ceil": (torch.ceil, -3.3, 3.3),
    "round": (torch.round, -3.3, 3.3),
    "sign": (torch.sign, -3.0, 3.0),
}
DEFAULTS = {"leaky_relu": {"negative_slope": 0.01}, "elu": {"alpha": 1.0}}
for op, (function, low, high) in UNARY.items():
    attrs = DEFAULTS.get(op, {})
    add(op, "values", function, spread([4, 6], low, high), **attrs)
    special = [nan, inf, -inf, 0.0, 1.0, -1.0, 1e4, -1e4, 100.0, -100.0]
    if op in ("sin", "cos"):
        special = special[:6]  # 1e4 has lost the place in its period
    if op in ("gelu", "silu", "hardswish"):
        special.remove(-inf)  # PyTorch's product -inf · 0 is NaN; the function's limit is 0
    if op == "sign":
        special.remove(nan)  # 0 in PyTorch, NaN in NumPy
    add(op, "special", function, given(special), gradient=False, **attrs)
for op in ("abs", "relu", "leaky_relu", "elu", "hardswish", "sign", "square", "silu", "gelu", "softplus", "erf", "sin"):
    add(op, "at zero", UNARY[op][0], given([0.0, 2.0, -2.0]), **DEFAULTS.get(op, {}))
add("sqrt", "at zero", torch.sqrt, given([0.0, 4.0]))
add("exp", "far out", torch.exp, given([-80.0, 80.0, 89.0, -200.0]))
add("sigmoid", "far out", torch.sigmoid, given([-80.0, 80.0, -30.0, 30.0, 17.0]))
add("tanh", "far out", torch.tanh, given([-80.0, 80.0, -10.0, 10.0, 1e-3]))
add("gelu", "far out", F.gelu, given([-30.0, 30.0, -6.0, 6.0, 1e-3]))
add("silu", "far out", F.silu, given([-80.0, 80.0, -30.0, 30.0, 1e-3]))
add("erf", "far out", torch.erf, given([-30.0, 30.0, -5.5, 5.5, 1e-3]))
add("round", "halves go to the even neighbour", torch.round, given([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 8388609.0]))
add("leaky_relu", "slope 0.2", F.leaky_relu, spread([9], -3.0, 3.0), negative_slope=0.2)
add("elu", "alpha 0.5", F.elu, spread([9], -3.0, 3.0), alpha=0.5)
add("hardswish", "corners", F.hardswish, given([-3.5, -2.5, 2.5, 3.5]))
for name, attrs in {"both": {"min": -1.0, "max": 0.5}, "min": {"min": -0.5}, "max": {"max": 0.5}}.items():
    add("clamp", name, torch.clamp, spread([11], -2.0, 2.0), **attrs)
add("clamp", "bounds pass the gradient", torch.clamp, given([-1.0, 0.5, 2.0]), min=-1.0, max=0.5)
add("clamp", "special", torch.clamp, given([nan, inf, -inf]), min=-1.0, max=1.0, gradient=False)

# ---- reduce: reductions and scans ----------------------------------------------------------------------------------

add = family("reduce")
AXES = {  # a variant's shape, axes and keepdim
    "all axes": ([3, 4, 2], [0, 1, 2], False),
    "first axis": ([4, 3, 2], [0], False),
    "last axis, kept": ([3, 5], [-1], True),
    "middle axis": ([2, 5, 3], [-2], False),
    "outer axes, kept": ([2, 3, 4], [0, 2], True),
    "axes out of order": ([2, 3, 2, 2], [-1, 1], False),
    "an axis of one": ([3, 1, 2], [1], False),
}
REDUCE = {
    "sum": lambda x, axes, keepdim: torch.sum(x, axes, keepdim),
    "mean": lambda x, axes, keepdim: torch.mean(x, axes, keepdim),
    "max": lambda x, axes, keepdim: torch.amax(x, axes, keepdim),
    "min": lambda x, axes, keepdim: torch.amin(x, axes, keepdim),
    "logsumexp": lambda x, axes, keepdim: torch.logsumexp(x, axes, keepdim),
}
for op, function in REDUCE.items():
    for variant, (shape, axes, keepdim) in AXES.items():
        add(op, variant, function, spread(shape), axes=axes, keepdim=keepdim)
for op in ("sum", "mean"):
    add(op, "empty axis", REDUCE[op], uniform([2, 0, 3]), axes=[1], keepdim=False)
    add(op, "special", REDUCE[op], given([[1, nan], [inf, 1], [inf, -inf], [-inf, 2]]), axes=[1], keepdim=False, gradient=False)
for op in ("max", "min"):
    add(op, "ties", REDUCE[op], given([[2, 1, 2, 2], [0, 1, 0, 1], [3, 3, 3, 3]]), axes=[1], keepdim=False)
    add(op, "special", REDUCE[op], given([[1, nan], [inf, 1], [inf, -inf], [-inf, -inf]]), axes=[1], keepdim=False, gradient=False)
add("logsumexp", "masked", REDUCE["logsumexp"], given([[-inf, 0, 1], [-inf, -inf, 3]]), axes=[1], keepdim=False)
add("logsumexp", "far out", REDUCE["logsumexp"], given([[1e4, 1e4], [-1e4, -1e4], [1e4, 0]]), axes=[1], keepdim=False)
add(
    "logsumexp",
    "special",
    REDUCE["logsumexp"],
    given([[-inf, -inf], [inf, 1], [nan, 1], [inf, -inf]]),
    axes=[1],
    keepdim=False,
    gradient=False,
)
var = lambda x, axes, correction, keepdim: torch.var(x, axes, correction=correction, keepdim=keepdim)
std = lambda x, axes, correction, keepdim: torch.std(x, axes, correction=correction, keepdim=keepdim)
for op, function in {"var": var, "std": std}.items():
    for variant, (shape, axes, keepdim) in AXES.items():
        if variant != "an axis of one":
            add(op, variant, function, uniform(shape), axes=axes, correction=1, keepdim=keepdim)
    add(op, "correction 0", function, uniform([3, 7]), axes=[1], correction=0, keepdim=False)
    add(op, "far from zero", function, uniform([2, 8], 99.0, 101.0), axes=[-1], correction=1, keepdim=False)
    add(op, "special", function, given([[1, nan, 2], [inf, 1, 2]]), axes=[1], correction=1, keepdim=False, gradient=False)
    add(op, "one element", function, given([[3], [4]]), axes=[1], correction=1, keepdim=False, gradient=False)
add("var", "all alike", var, given([[2, 2, 2]]), axes=[1], correction=0, keepdim=False)
norm = lambda x, p, axes, keepdim: torch.linalg.vector_norm(x, float(p), axes, keepdim)
for p in ("0", "1", "2", "3", "inf"):
    add("norm", f"p {p}", norm, spread([3, 5]), p=p, axes=[-1], keepdim=False)
    add("norm", f"p {p}, two axes, kept", norm, spread([2, 3, 3]), p=p, axes=[0, -1], keepdim=True)
    add("norm", f"p {p}, special", norm, given([[nan, 1], [inf, 1], [-inf, nan]]), p=p, axes=[1], keepdim=False, gradient=False)
add("norm", "p 0.5", norm, uniform([2, 4], 0.5, 2.0), p="0.5", axes=[1], keepdim=False)
add("norm", "p 2 of zeros", norm, given([[0, 0], [3, -4]]), p="2", axes=[1], keepdim=False)
add("norm", "p 1 with a zero", norm, given([[0, 2], [3, -4]]), p="1", axes=[1], keepdim=False)
prod = lambda x, axes, keepdim: torch.prod(x, *axes, keepdim)  # over one axis alone
add("prod", "last axis", prod, uniform([3, 5]), axes=[-1], keepdim=False)
add("prod", "first axis, kept", prod, uniform([4, 2, 3]), axes=[0], keepdim=True)
add("prod", "middle axis", prod, uniform([2, 4, 3]), axes=[1], keepdim=False)
zeros = given([[2, 3, 4], [2, 0, 4], [0, 3, 0], [0, 0, 0]])
add("prod", "no, one, two and three zeros", prod, zeros, axes=[1], keepdim=False)
add("prod", "empty axis", prod, uniform([2, 0]), axes=[1], keepdim=False)
add("prod", "special", prod, given([[1, nan], [inf, 2], [inf, 0]]), axes=[1], keepdim=False, gradient=False)
prods = lambda x, axes, keepdim: jnp.prod(x, tuple(axes), keepdims=keepdim)
add("prod", "two axes", prods, uniform([2, 3, 2]), axes=[0, -1], keepdim=False, oracle="JAX")
cumsum = lambda x, axis: torch.cumsum(x, axis)
add("cumsum", "last axis", cumsum, uniform([3, 7]), axis=-1)
add("cumsum", "first axis", cumsum, uniform([5, 2, 2]), axis=0)
add("cumsum", "middle axis", cumsum, uniform([2, 6, 3]), axis=-2)
add("cumsum", "special", cumsum, given([1, inf, 2, -inf, 3, nan, 4]), axis=0, gradient=False)
for op in ("argmax", "argmin"):
    function = lambda x, axis, keepdim, op=op: getattr(torch, op)(x, axis, keepdim)
    add(op, "last axis", function, spread([4, 5]), axis=-1, keepdim=False, gradient=False)
    add(op, "first axis, kept", function, spread([4, 3, 2]), axis=0, keepdim=True, gradient=False)
    add(op, "middle axis", function, spread([2, 6, 3]), axis=1, keepdim=False, gradient=False)
    add(op, "first of ties", function, given([[2, 1, 2, 1], [1, 2, 1, 2], [0, 0, 0, 0]]), axis=1, keepdim=False, gradient=False)
    add(
        op,
        "special",
        function,
        given([[1, nan, inf], [nan, 1, nan], [-inf, inf, 0], [-inf, -inf, -inf]]),
        axis=1,
        keepdim=False,
        gradient=False,
    )

# ---- softmax -------------------------------------------------------------------------------------------------------

add = family("softmax")
for op, function in {"softmax": torch.softmax, "log_softmax": torch.log_softmax}.items():
    along = lambda x, axis, function=function: function(x, axis)
    add(op, "last axis", along, uniform([3, 7], -4.0, 4.0), axis=-1)
    add(op, "first axis", along, uniform([6, 2, 2], -4.0, 4.0), axis=0)
    add(op, "middle axis", along, uniform([2, 5, 3], -4.0, 4.0), axis=-2)
    add(op, "an axis of one", along, uniform([3, 1], -4.0, 4.0), axis=1)
    add(op, "masked", along, given([[-inf, 0.5, 1], [2, -inf, -inf]]), axis=1)
    add(op, "far out", along, given([[1e4, 1e4, -1e4], [-1e4, -1e4 + 1, -1e4], [3e38, 0, -3e38]]), axis=1)
    special = given([[-inf, -inf, -inf], [inf, 0, 1], [nan, 0, 1], [inf, -inf, nan], [0, 1, 2]])
    add(op, "masked rows and special", along, special, axis=1, gradient=False)

# ---- matmul --------------------------------------------------------------------------------------------------------

add = family("matmul")
for variant, a, b in [
    ("plain", [3, 4], [4, 5]),
    ("row by column", [1, 7], [7, 1]),
    ("column by row", [4, 1], [1, 3]),
    ("batch", [2, 3, 4], [2, 4, 2]),
    ("batch on the left alone", [3, 2, 4], [4, 3]),
    ("batch on the right alone", [2, 4], [3, 4, 2]),
    ("both batches broadcast", [2, 1, 2, 3], [3, 3, 2]),
    ("nothing to sum", [2, 0], [0, 3]),
]:
    add("matmul", variant, torch.matmul, uniform(a), uniform(b))
add("matmul", "special", torch.matmul, given([[nan, 1], [inf, 1], [1, 2]]), given([[1, 1], [1, 0]]), gradient=False)
ACTIVATIONS = {"none": lambda y: y, "relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}


def linear(x, w, b=None, activation="none"):
    return ACTIVATIONS[activation](F.linear(x, w, b))


add("linear", "without bias", linear, uniform([3, 4]), uniform([2, 4]))
add("linear", "one row", linear, uniform([4]), uniform([3, 4]), uniform([3]))
add("linear", "four axes", linear, uniform([2, 1, 3, 4]), uniform([5, 4]), uniform([5]))
for activation in ACTIVATIONS:
    add("linear", f"activation {activation}", linear, uniform([4, 3]), uniform([5, 3]), uniform([5]), activation=activation)

# ---- conv: convolutions and their transposes -----------------------------------------------------------------------

add = family("conv")


def conv2d(x, w, b=None, activation="none", **attrs):
    return ACTIVATIONS[activation](F.conv2d(x, w, b, **attrs))


for variant, x, w, bias, attrs in [
    ("plain", [2, 2, 4, 5], [3, 2, 2, 3], True, {}),
    ("without bias", [1, 2, 4, 4], [2, 2, 3, 3], False, {}),
    ("pointwise", [2, 3, 3, 2], [4, 3, 1, 1], True, {}),
    ("the kernel as large as the plane", [1, 2, 3, 4], [2, 2, 3, 4], True, {}),
    ("stride and padding", [1, 2, 5, 6], [2, 2, 3, 2], True, {"stride": [2, 3], "padding": [1, 0]}),
    ("stride that leaves a rest", [1, 1, 6, 7], [1, 1, 2, 2], True, {"stride": [3, 2]}),
    ("dilation and uneven padding", [1, 2, 6, 5], [2, 2, 2, 3], True, {"padding": [3, 2], "dilation": [3, 2]}),
    ("groups", [1, 4, 4, 4], [6, 2, 3, 2], True, {"padding": [0, 1], "groups": 2}),
    ("depthwise", [2, 3, 4, 4], [3, 1, 3, 3], True, {"padding": [1, 1], "groups": 3}),
    ("depthwise, two channels each", [1, 3, 4, 3], [6, 1, 2, 2], True, {"stride": [1, 2], "groups": 3}),
    (
        "all at once",
        [2, 4, 5, 6],
        [6, 2, 3, 2],
        True,
        {"stride": [2, 1], "padding": [1, 2], "dilation": [1, 2], "groups": 2},
    ),
    ("more padding than the kernel", [1, 1, 2, 2], [1, 1, 2, 2], True, {"padding": [3, 2]}),
    ("no image", [0, 2, 3, 3], [2, 2, 2, 2], True, {}),
    ("activation relu", [1, 2, 4, 4], [3, 2, 3, 3], True, {"activation": "relu"}),
    ("activation sigmoid", [1, 2, 4, 4], [3, 2, 3, 3], True, {"activation": "sigmoid", "groups": 1}),
    ("activation tanh", [1, 2, 4, 4], [2, 1, 3, 3], True, {"activation": "tanh", "groups": 2}),
]:
    inputs = [uniform(x), uniform(w), *([uniform(w[:1])] if bias else [])]
    add("conv2d", variant, conv2d, *inputs, **attrs)
for variant, x, w, bias, attrs in [
    ("plain", [2, 2, 7], [3, 2, 3], True, {}),
    ("without bias", [1, 2, 5], [2, 2, 2], False, {}),
    ("stride and padding", [1, 2, 8], [2, 2, 3], True, {"stride": 2, "padding": 2}),
    ("dilation", [1, 2, 9], [2, 2, 3], True, {"padding": 1, "dilation": 3}),
    ("groups", [2, 4, 6], [6, 2, 2], True, {"groups": 2}),
    ("depthwise", [1, 3, 6], [3, 1, 3], True, {"padding": 1, "groups": 3}),
]:
    inputs = [uniform(x), uniform(w), *([uniform(w[:1])] if bias else [])]
    add("conv1d", variant, F.conv1d, *inputs, **attrs)
for variant, x, w, bias, attrs in [
    ("plain", [2, 2, 4], [2, 3, 3], True, {}),
    ("without bias", [1, 2, 3], [2, 2, 2], False, {}),
    ("stride", [1, 2, 4], [2, 2, 3], True, {"stride": 2}),
    ("gaps", [1, 2, 4], [2, 1, 2], True, {"stride": 3}),
    ("output padding", [1, 2, 4], [2, 2, 3], True, {"stride": 2, "padding": 1, "output_padding": 1}),
    ("dilation", [1, 2, 5], [2, 2, 3], True, {"padding": 2, "dilation": 2}),
    ("output padding by dilation", [1, 1, 4], [1, 2, 2], True, {"stride": 1, "dilation": 3, "output_padding": 2}),
    ("groups", [1, 4, 3], [4, 3, 2], True, {"stride": 2, "groups": 2}),
    ("depthwise", [1, 3, 4], [3, 1, 3], True, {"padding": 1, "groups": 3}),
]:
    inputs = [uniform(x), uniform(w), *([uniform([w[1] * attrs.get("groups", 1)])] if bias else [])]
    add("conv_transpose1d", variant, F.conv_transpose1d, *inputs, **attrs)
for variant, x, w, bias, attrs in [
    ("plain", [2, 2, 3, 2], [2, 3, 2, 3], True, {}),
    ("without bias", [1, 2, 2, 3], [2, 2, 2, 2], False, {}),
    ("pointwise", [1, 3, 2, 3], [3, 2, 1, 1], True, {}),
    ("stride and padding", [1, 2, 3, 3], [2, 2, 3, 2], True, {"stride": [2, 3], "padding": [1, 0]}),
    ("gaps", [1, 1, 3, 3], [1, 2, 2, 1], True, {"stride": [3, 2]}),
    (
        "output padding",
        [1, 2, 3, 2],
        [2, 2, 3, 3],
        True,
        {"stride": [2, 3], "padding": [1, 1], "output_padding": [1, 2]},
    ),
    ("dilation and uneven padding", [1, 2, 4, 3], [2, 1, 2, 3], True, {"padding": [1, 2], "dilation": [3, 2]}),
    ("groups", [1, 4, 2, 3], [4, 3, 2, 2], True, {"stride": [1, 2], "groups": 2}),
    ("depthwise", [1, 3, 3, 3], [3, 1, 3, 3], True, {"stride": [2, 2], "padding": [1, 1], "groups": 3}),
    (
        "all at once",
        [2, 4, 3, 2],
        [4, 1, 3, 2],
        True,
        {"stride": [2, 1], "padding": [2, 1], "output_padding": [1, 1], "dilation": [1, 2], "groups": 2},
    ),
]:
    inputs = [uniform(x), uniform(w), *([uniform([w[1] * attrs.get("groups", 1)])] if bias else [])]
    add("conv_transpose2d", variant, F.conv_transpose2d, *inputs, **attrs)

# ---- planes: pooling and resizing ----------------------------------------------------------------------------------

add = family("planes")
for variant, x, attrs in [
    ("plain", [2, 2, 4, 6], {"kernel_size": [2, 2]}),
    ("a rest is left out", [1, 2, 5, 7], {"kernel_size": [2, 3]}),
    ("overlap", [1, 1, 6, 6], {"kernel_size": [3, 3], "stride": [2, 1]}),
    ("overlap and padding", [1, 2, 5, 4], {"kernel_size": [3, 2], "stride": [2, 2], "padding": [1, 1]}),
    ("dilation", [1, 1, 7, 6], {"kernel_size": [2, 3], "stride": [1, 1], "dilation": [3, 2]}),
    ("ceil mode", [1, 2, 5, 7], {"kernel_size": [2, 3], "stride": [2, 2], "ceil_mode": True}),
    (
        "ceil mode drops a window in the padding",
        [1, 1, 6, 5],
        {"kernel_size": [2, 2], "stride": [3, 3], "padding": [1, 1], "ceil_mode": True},
    ),
    (
        "all at once",
        [1, 2, 8, 7],
        {"kernel_size": [3, 2], "stride": [2, 3], "padding": [1, 1], "dilation": [2, 1], "ceil_mode": True},
    ),
    ("the whole plane", [2, 2, 3, 4], {"kernel_size": [3, 4]}),
]:
    add("max_pool2d", variant, F.max_pool2d, spread(x), **attrs)
tied = given([[[[1, 1, 2, 2], [1, 1, 2, 0], [0, 3, 3, 3], [3, 0, 3, 3]]]])
add("max_pool2d", "the first of ties", F.max_pool2d, tied, kernel_size=[2, 2])
add("max_pool2d", "the first of ties, overlapping", F.max_pool2d, tied, kernel_size=[3, 3], stride=[1, 1], padding=[1, 1])
add(
    "max_pool2d",
    "special",
    F.max_pool2d,
    given([[[[1, nan, -inf, -inf], [2, 3, -inf, -inf], [inf, 1, nan, inf], [0, 0, 1, nan]]]]),
    kernel_size=[2, 2],
    gradient=False,
)
for variant, x, attrs in [
    ("plain", [2, 2, 4, 6], {"kernel_size": [2, 2]}),
    ("a rest is left out", [1, 2, 5, 7], {"kernel_size": [2, 3]}),
    ("overlap and padding", [1, 2, 5, 4], {"kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 1]}),
    (
        "padding is not counted",
        [1, 2, 5, 4],
        {"kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 1], "count_include_pad": False},
    ),
    ("ceil mode", [1, 2, 5, 6], {"kernel_size": [2, 3], "stride": [2, 2], "ceil_mode": True}),
    (
        "ceil mode and padding",
        [1, 1, 6, 5],
        {"kernel_size": [3, 3], "stride": [2, 3], "padding": [1, 1], "ceil_mode": True},
    ),
    (
        "ceil mode, padding is not counted",
        [1, 1, 6, 5],
        {"kernel_size": [3, 3], "stride": [2, 3], "padding": [1, 1], "ceil_mode": True, "count_include_pad": False},
    ),
]:
    add("avg_pool2d", variant, F.avg_pool2d, uniform(x), **attrs)
for variant, x, size in [
    ("plain", [2, 2, 4, 6], [2, 3]),
    ("windows of several sizes", [1, 2, 5, 7], [3, 4]),
    ("larger than the input", [1, 1, 2, 3], [3, 5]),
    ("one", [2, 3, 3, 4], [1, 1]),
    ("the input's own size", [1, 1, 3, 2], [3, 2]),
]:
    add("adaptive_avg_pool2d", variant, F.adaptive_avg_pool2d, uniform(x), output_size=size)
nearest = lambda x, size: F.interpolate(x, size=size, mode="nearest")
bilinear = lambda x, size, align_corners: F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)
for variant, x, size in [
    ("twice and three times", [2, 2, 2, 3], [4, 9]),
    ("ratios that do not divide", [1, 2, 3, 4], [5, 7]),
    ("smaller", [1, 1, 7, 6], [3, 4]),
    ("from one", [1, 2, 1, 1], [2, 3]),
    ("to one", [1, 2, 3, 4], [1, 1]),
    ("the same", [1, 1, 3, 2], [3, 2]),
]:
    add("upsample_nearest2d", variant, nearest, uniform(x), size=size)
    for align in (False, True):
        corners = "corners aligned" if align else "corners not aligned"
        add("upsample_bilinear2d", f"{variant}, {corners}", bilinear, uniform(x), size=size, align_corners=align)

# ---- index: joining, padding, picking, ordering --------------------------------------------------------------------

add = family("index")
cat = lambda *x, axis: torch.cat(x, axis)
stack = lambda *x, axis: torch.stack(x, axis)
split = lambda x, sizes, axis: torch.split(x, sizes, axis)
add("cat", "first axis", cat, uniform([2, 3]), uniform([1, 3]), uniform([4, 3]), axis=0)
add("cat", "last axis", cat, uniform([2, 3]), uniform([2, 2]), axis=-1)
add("cat", "middle axis, one empty", cat, uniform([2, 1, 3]), uniform([2, 0, 3]), uniform([2, 2, 3]), axis=1)
add("cat", "one alone", cat, uniform([2, 3]), axis=1)
add("stack", "first axis", stack, uniform([2, 3]), uniform([2, 3]), axis=0)
add("stack", "last axis", stack, uniform([2, 3]), uniform([2, 3]), uniform([2, 3]), axis=-1)
add("stack", "rank 0", stack, uniform([]), uniform([]), axis=0)
add("split", "unequal parts", split, uniform([2, 7]), sizes=[1, 4, 2], axis=-1)
add("chunk", "the last part is shorter", lambda x, chunks, axis: torch.chunk(x, chunks, axis), uniform([2, 7]), chunks=3, axis=1)
add("split", "an empty part", split, uniform([4, 3]), sizes=[3, 0, 1], axis=0)


def pad(x, pads, mode, value=0.0):
    """`pads`: [before, after] for each axis, the first axis first."""
    flat = [n for axis in reversed(pads) for n in axis]
    if mode == "constant":
        return F.pad(x, flat, mode, value)
    # F.pad reflects the last axes alone, and wants those before them left out.
    held = sum(axis == [0, 0] for axis in pads)
    return F.pad(x, flat[: 2 * (len(pads) - held)], mode)


add("pad", "constant", pad, uniform([2, 3]), pads=[[1, 2], [0, 3]], mode="constant", value=0.0)
add("pad", "constant, another value", pad, uniform([2, 2, 2]), pads=[[0, 1], [2, 0], [1, 1]], mode="constant", value=-1.5)
add("pad", "constant around nothing", pad, uniform([2, 0]), pads=[[0, 0], [1, 2]], mode="constant", value=3.0)
add("pad", "reflect, last axis", pad, uniform([1, 2, 4]), pads=[[0, 0], [0, 0], [3, 1]], mode="reflect")
add("pad", "reflect, two axes", pad, uniform([1, 2, 3, 4]), pads=[[0, 0], [0, 0], [2, 1], [0, 3]], mode="reflect")
gather = lambda x, index, axis: torch.gather(x, axis, index)
add("gather", "first axis", gather, uniform([4, 3]), ids([5, 3], 4), axis=0)
add("gather", "last axis", gather, uniform([3, 4]), ids([3, 2], 4), axis=-1)
add("gather", "middle axis, with repeats", gather, uniform([2, 3, 2]), ids([2, 7, 2], 3), axis=1)
add("gather", "fewer rows than the input", gather, uniform([4, 5]), ids([2, 3], 5), axis=1)
scatter_add = lambda x, index, source, axis: torch.scatter_add(x, axis, index, source)
add("scatter_add", "first axis", scatter_add, uniform([3, 4]), ids([5, 4], 3), uniform([5, 4]), axis=0)
add("scatter_add", "last axis", scatter_add, uniform([3, 4]), ids([3, 6], 4), uniform([3, 6]), axis=-1)
add("scatter_add", "all into one", scatter_add, uniform([4, 2]), given_ids([[1, 1]] * 6), uniform([6, 2]), axis=0)
add("scatter_add", "three axes", scatter_add, uniform([2, 3, 2]), ids([2, 5, 2], 3), uniform([2, 5, 2]), axis=1)
index_select = lambda x, index, axis: torch.index_select(x, axis, index)
add("index_select", "first axis, with repeats", index_select, uniform([4, 3]), given_ids([2, 0, 2, 2, 3]), axis=0)
add("index_select", "last axis", index_select, uniform([2, 2, 4]), given_ids([3, 1, 0]), axis=-1)
add("index_select", "nothing", index_select, uniform([2, 3]), ids([0], 3), axis=1)
embedding = lambda table, index: F.embedding(index, table)
add("embedding", "with repeats", embedding, uniform([5, 3]), given_ids([4, 0, 4, 1, 4]))
add("embedding", "ids of two axes", embedding, uniform([4, 2]), ids([2, 3], 4))
add("embedding", "one id of rank 0", embedding, uniform([4, 2]), given_ids(2))
one_hot = lambda index, num_classes: F.one_hot(index, num_classes).double()
add("one_hot", "two axes", one_hot, ids([2, 3], 4), num_classes=4, gradient=False)
add("one_hot", "more classes than are named", one_hot, given_ids([0, 2]), num_classes=5, gradient=False)
topk = lambda x, k, axis, largest: torch.topk(x, k, axis, largest, sorted=True)
add("topk", "largest", topk, spread([3, 7]), k=3, axis=-1, largest=True)
add("topk", "smallest", topk, spread([3, 7]), k=4, axis=-1, largest=False)
add("topk", "first axis", topk, spread([6, 2, 2]), k=2, axis=0, largest=True)
add("topk", "all", topk, spread([2, 4]), k=4, axis=1, largest=True)
special = given([[1, nan, inf, -inf], [-inf, 2, 3, 4]])
add("topk", "special", topk, special, k=3, axis=1, largest=True, gradient=False)
add("topk", "special, smallest", topk, special, k=3, axis=1, largest=False, gradient=False)
argsort = lambda x, axis, descending: torch.argsort(x, axis, descending)
add("argsort", "first axis", argsort, spread([6, 3]), axis=0, descending=True, gradient=False)
sort = lambda x, axis, descending: torch.sort(x, stable=True, dim=axis, descending=descending)
add("sort", "last axis", sort, spread([3, 7]), axis=-1, descending=False)
add("sort", "last axis, descending", sort, spread([3, 7]), axis=-1, descending=True)
add("sort", "first axis", sort, spread([6, 2, 2]), axis=0, descending=False)
add("sort", "ties keep their order", sort, given([[2, 1, 2, 1, 2], [0, 0, 0, 0, 0]]), axis=1, descending=False)
add("sort", "ties keep their order, descending", sort, given([[2, 1, 2, 1, 2]]), axis=1, descending=True)
for descending in (False, True):
    order = ", descending" if descending else ""
    add("sort", f"special{order}", sort, given([[1, nan, inf, -inf, 0]]), axis=1, descending=descending, gradient=False)

# ---- norm: normalisations ------------------------------------------------------------------------------------------

add = family("norm")
layer_norm = lambda x, *affine, normalized_shape, eps: F.layer_norm(x, normalized_shape, *affine, eps=eps)
add("layer_norm", "last axis", layer_norm, uniform([3, 6]), uniform([6]), uniform([6]), normalized_shape=[6], eps=1e-5)
add("layer_norm", "without affine", layer_norm, uniform([2, 2, 5]), normalized_shape=[5], eps=1e-5)
add("layer_norm", "weight alone", layer_norm, uniform([4, 5]), uniform([5]), normalized_shape=[5], eps=1e-5)
add(
    "layer_norm",
    "two axes",
    layer_norm,
    uniform([3, 2, 4]),
    uniform([2, 4]),
    uniform([2, 4]),
    normalized_shape=[2, 4],
    eps=1e-5,
)
add("layer_norm", "large eps", layer_norm, uniform([3, 4]), uniform([4]), uniform([4]), normalized_shape=[4], eps=0.5)
add("layer_norm", "far from zero", layer_norm, uniform([2, 6], 9.0, 11.0), normalized_shape=[6], eps=1e-5)
add("layer_norm", "all alike", layer_norm, given([[2.0] * 4]), uniform([4]), uniform([4]), normalized_shape=[4], eps=1e-2)
add("layer_norm", "special", layer_norm, given([[nan, 1, 2], [inf, 1, 2], [1, 2, 4]]), normalized_shape=[3], eps=1e-5, gradient=False)


def rms_norm(x, *weight, axes, eps):
    """PyTorch has it from 2.4 on: x / sqrt(mean(x²) + eps) · weight, over the last axes (arXiv:1910.07467)."""
    y = x / jnp.sqrt(jnp.mean(x * x, tuple(range(-axes, 0)), keepdims=True) + eps)
    return y * weight[0] if weight else y


add("rms_norm", "with weight", rms_norm, uniform([3, 6]), uniform([6]), axes=1, eps=1e-5, oracle="JAX")
add("rms_norm", "without weight", rms_norm, uniform([2, 2, 5]), axes=1, eps=1e-6, oracle="JAX")
add("rms_norm", "two axes", rms_norm, uniform([3, 2, 3]), uniform([2, 3]), axes=2, eps=1e-5, oracle="JAX")
add("rms_norm", "large eps", rms_norm, uniform([3, 4]), uniform([4]), axes=1, eps=0.5, oracle="JAX")
add("rms_norm", "zeros", rms_norm, given([[0, 0, 0], [3, 4, 0]]), uniform([3]), axes=1, eps=0.25, oracle="JAX")


def add_layer_norm(x, r, *affine, normalized_shape, eps):
    return F.layer_norm(x + r, normalized_shape, *affine, eps=eps), x + r


def add_rms_norm(x, r, *weight, axes, eps):
    s = x + r
    y = s / torch.sqrt(torch.mean(s * s, tuple(range(-axes, 0)), keepdim=True) + eps)
    return (y * weight[0] if weight else y), s


pair = lambda *shape: (uniform(shape), uniform(shape))
add("add_layer_norm", "last axis", add_layer_norm, *pair(3, 6), *pair(6), normalized_shape=[6], eps=1e-5)
add("add_layer_norm", "two axes, without affine", add_layer_norm, *pair(2, 2, 3), normalized_shape=[2, 3], eps=1e-3)
add("add_rms_norm", "with weight", add_rms_norm, *pair(2, 2, 5), uniform([5]), axes=1, eps=1e-5)
add("add_rms_norm", "two axes", add_rms_norm, *pair(3, 2, 3), axes=2, eps=0.5)
group_norm = lambda x, *affine, num_groups, eps: F.group_norm(x, num_groups, *affine, eps=eps)
add("group_norm", "two groups", group_norm, uniform([2, 4, 2, 3]), uniform([4]), uniform([4]), num_groups=2, eps=1e-5)
add("group_norm", "one group", group_norm, uniform([2, 3, 4]), uniform([3]), uniform([3]), num_groups=1, eps=1e-5)
add("group_norm", "a group a channel", group_norm, uniform([2, 3, 5]), uniform([3]), uniform([3]), num_groups=3, eps=1e-5)
add("group_norm", "without affine", group_norm, uniform([1, 6, 2, 2]), num_groups=3, eps=1e-5)
add("group_norm", "no further axes", group_norm, uniform([3, 6]), uniform([6]), uniform([6]), num_groups=2, eps=1e-3)

instance_norm = lambda x, *affine, eps: F.instance_norm(x, None, None, *affine, eps=eps)
add("instance_norm", "planes", instance_norm, uniform([2, 3, 2, 3]), uniform([3]), uniform([3]), eps=1e-5)
add("instance_norm", "without affine", instance_norm, uniform([2, 3, 5]), eps=1e-3)


def batch_norm(x, mean, variance, *affine, momentum, eps):
    """The result, and the running statistics after it."""
    mean, variance = mean.clone(), variance.clone()
    y = F.batch_norm(x, mean, variance, *affine, training=True, momentum=momentum, eps=eps)
    return y, mean, variance


def batch_norm_by(x, mean, variance, *affine, eps):
    return F.batch_norm(x, mean, variance, *affine, training=False, eps=eps)


running = lambda c: (constant(uniform([c])), constant(uniform([c], 0.5, 2.0)))
affine = lambda c: (uniform([c]), uniform([c]))
for variant, shape, tail, attrs in [
    ("planes", [2, 3, 2, 3], affine(3), {"momentum": 0.1, "eps": 1e-5}),
    ("rows", [6, 4], affine(4), {"momentum": 0.25, "eps": 1e-3}),
    ("signals", [3, 2, 5], affine(2), {"momentum": 1.0, "eps": 1e-5}),
    ("without affine", [4, 2, 2, 2], (), {"momentum": 0.1, "eps": 1e-5}),
]:
    add("batch_norm", variant, batch_norm, uniform(shape), *running(shape[1]), *tail, **attrs)
    add("batch_norm_by", variant, batch_norm_by, uniform(shape), *running(shape[1]), *tail, eps=attrs["eps"])

# ---- layers: what transformers and recurrent networks are made of -----------------------------------------------------

add = family("layers")
halves = lambda x, axis: torch.chunk(x, 2, axis)
GATED = {
    "glu": F.glu,
    "swiglu": lambda x, axis: F.silu(halves(x, axis)[0]) * halves(x, axis)[1],
    "geglu": lambda x, axis: F.gelu(halves(x, axis)[0]) * halves(x, axis)[1],
    "reglu": lambda x, axis: F.relu(halves(x, axis)[0]) * halves(x, axis)[1],
}
for op, function in GATED.items():
    add(op, "last axis", lambda x, axis, function=function: function(x, axis), spread([3, 10]), axis=-1)
    add(op, "by four", lambda x, axis, function=function: function(x, axis), spread([2, 2, 8]), axis=2)
    add(op, "first axis", lambda x, axis, function=function: function(x, axis), spread([4, 3], -5.0, 5.0), axis=0)
    add(op, "special", lambda x, axis, function=function: function(x, axis), given([[nan, 1], [1, nan], [inf, 2], [2, inf]]), axis=1, gradient=False)


def rotary(x, cos, sin, pairs):
    """Pairs as complex numbers, multiplied by those of the angles."""
    d = 2 * cos.shape[-1]
    turned, rest = x[..., :d], x[..., d:]
    shape = (*x.shape[:-1], 2, d // 2) if pairs == "halves" else (*x.shape[:-1], d // 2, 2)
    along = -2 if pairs == "halves" else -1
    a, b = turned.reshape(shape).unbind(along)
    y = torch.complex(a, b) * torch.complex(cos, sin)
    return torch.cat([torch.stack([y.real, y.imag], along).reshape(turned.shape), rest], -1)


angles = lambda *shape: (constant(uniform(shape, -1.0, 1.0)), constant(uniform(shape, -1.0, 1.0)))
for pairs in ("halves", "neighbours"):
    add("rotary_embedding", f"{pairs}, whole rows", rotary, uniform([2, 2, 3, 6]), *angles(3, 3), pairs=pairs)
    add("rotary_embedding", f"{pairs}, a part", rotary, uniform([2, 3, 7]), *angles(3, 2), pairs=pairs)


def lstm_cell(x, h, c):
    """PyTorch's cell, of gates that are there already: its weights are those that pass them on."""
    gates = x.shape[-1]
    pass_on = torch.eye(gates, dtype=x.dtype)
    cell = lambda x, h, c: torch._VF.lstm_cell(x, (h, c), pass_on, torch.zeros(gates, gates // 4, dtype=x.dtype))
    return cell(x + h, torch.zeros_like(c), c)


def gru_cell(x, h, s):
    r, z = torch.sigmoid(x + h).chunk(3, -1)[:2]
    n = torch.tanh(x.chunk(3, -1)[2] + r * h.chunk(3, -1)[2])
    return (1 - z) * n + z * s


add("lstm_cell", "rows", lstm_cell, uniform([3, 8]), uniform([3, 8]), uniform([3, 2]))
add("lstm_cell", "one row, far out", lstm_cell, uniform([1, 12], -9.0, 9.0), uniform([1, 12]), uniform([1, 3], -5.0, 5.0))
add("gru_cell", "rows", gru_cell, uniform([3, 6]), uniform([3, 6]), uniform([3, 2]))
add("gru_cell", "one row, far out", gru_cell, uniform([9], -9.0, 9.0), uniform([9]), uniform([3], -5.0, 5.0))

# ---- loss ----------------------------------------------------------------------------------------------------------

add = family("loss")


def cross_entropy(x, targets, weight=None, **attrs):
    return F.cross_entropy(x, targets, weight, **attrs)


logits = lambda *shape: uniform(shape, -4.0, 4.0)
weight = constant(uniform([4], 0.2, 2.0))
mixed = given_ids([1, 3, 0, 3, 2, 3])  # a third of what is ignored below
add("cross_entropy", "mean", cross_entropy, logits(5, 4), ids([5], 4))
add("cross_entropy", "one row", cross_entropy, logits(1, 3), ids([1], 3))
add("cross_entropy", "one class", cross_entropy, logits(3, 1), ids([3], 1))
add("cross_entropy", "far out", cross_entropy, given([[1e4, 0, -1e4], [-1e4, 1, 2]]), given_ids([0, 0]))
add("cross_entropy", "masked", cross_entropy, given([[-inf, 0.5, 1], [2, -inf, -inf]]), given_ids([1, 0]))
for reduction in ("none", "sum", "mean"):
    attrs = {"reduction": reduction}
    add("cross_entropy_with", f"{reduction}, ids ignored", cross_entropy, logits(6, 4), mixed, ignore_index=3, **attrs)
    add("cross_entropy_with", f"{reduction}, smoothed", cross_entropy, logits(5, 4), ids([5], 4), label_smoothing=0.1, **attrs)
    add("cross_entropy_with", f"{reduction}, weighted", cross_entropy, logits(5, 4), ids([5], 4), weight, **attrs)
    add(
        "cross_entropy_with",
        f"{reduction}, all at once",
        cross_entropy,
        logits(6, 4),
        mixed,
        weight,
        ignore_index=3,
        label_smoothing=0.2,
        **attrs,
    )
add("cross_entropy_with", "none", cross_entropy, logits(5, 4), ids([5], 4), reduction="none")
add("cross_entropy_with", "sum", cross_entropy, logits(5, 4), ids([5], 4), reduction="sum")
add("cross_entropy_with", "all ignored", cross_entropy, logits(2, 3), given_ids([1, 1]), ignore_index=1, reduction="sum")
add("cross_entropy_with", "all ignored, mean", cross_entropy, logits(2, 3), given_ids([1, 1]), ignore_index=1, reduction="mean", gradient=False)


def bce_with_logits(x, targets, weight=None, reduction="mean"):
    return F.binary_cross_entropy_with_logits(x, targets, pos_weight=weight, reduction=reduction)


def hinge(x, t, reduction):
    """max(0, 1 - t x): PyTorch has it as the ranking of x against 0 by a margin of 1."""
    return F.margin_ranking_loss(x, torch.zeros_like(x), t, margin=1.0, reduction=reduction)


apart = lambda: (spread([3, 4]), spread([3, 4], -1.9, 1.9))
probabilities = uniform([3, 4], 0.05, 1.0)
logs = lambda: uniform([3, 4], -4.0, 0.0)
for reduction in ("none", "sum", "mean"):
    attrs = {"reduction": reduction}
    add("bce_with_logits", reduction, bce_with_logits, logits(3, 4), probabilities, **attrs)
    positive = constant(uniform([4], 0.5, 3.0))
    add("bce_with_logits", f"{reduction}, pos_weight", bce_with_logits, logits(3, 4), probabilities, positive, **attrs)
    add("mse_loss", reduction, F.mse_loss, uniform([3, 4]), uniform([3, 4]), **attrs)
    add("l1_loss", reduction, F.l1_loss, *apart(), **attrs)
    add("huber_loss", reduction, F.huber_loss, *apart(), delta=1.0, **attrs)
    add("huber_loss", f"{reduction}, delta 0.5", F.huber_loss, *apart(), delta=0.5, **attrs)
    signs = constant(given([[1, -1, 1, -1], [1, 1, -1, -1], [-1, 1, 1, 1]]))
    add("hinge_loss", reduction, hinge, spread([3, 4], -3.0, 3.0), signs, **attrs)
for reduction in ("none", "sum", "mean", "batchmean"):
    add("kl_div", reduction, F.kl_div, logs(), probabilities, reduction=reduction)
    add("kl_div", f"{reduction}, targets in logs", F.kl_div, logs(), logs(), log_target=True, reduction=reduction)
add("bce_with_logits", "far out", bce_with_logits, given([1e4, -1e4, 80, -80]), constant(given([1, 1, 0, 0])), reduction="none")
add("l1_loss", "equal", F.l1_loss, given([1, 2, 3]), constant(given([1, 0, 5])), reduction="none")
add("kl_div", "targets of zero", F.kl_div, uniform([4], -4, 0), constant(given([0, 0.5, 0, 0.5])), reduction="none")

# ---- attention -----------------------------------------------------------------------------------------------------

add = family("attention")


def attention(q, k, v, mask=None, *, causal=False, scale=None, softcap=None, window=(None, None), skip=None):
    """Over [.., heads, length, size]; a mask of 0 and 1 is a constant, one that is added is not. 0 where nothing is seen.
    `skip` is a key that nobody sees."""
    (heads, n, d), (kv_heads, m, _) = q.shape[-3:], k.shape[-3:]
    k, v = (jnp.repeat(x, heads // kv_heads, axis=-3) for x in (k, v))
    s = jnp.einsum("...nd,...md->...nm", q, k) * (d**-0.5 if scale is None else scale)
    if softcap is not None:
        s = softcap * jnp.tanh(s / softcap)
    away = jnp.arange(m)[None] - (jnp.arange(n)[:, None] + m - n)
    left, right = window
    seen = jnp.ones((n, m), bool)
    seen &= True if left is None else away >= -left
    seen &= True if right is None else away <= right
    seen &= away <= 0 if causal else True
    seen &= True if skip is None else jnp.arange(m) != skip
    if isinstance(mask, np.ndarray):
        seen = seen & (mask != 0)
    elif mask is not None:
        s = s + mask
    seen = jnp.broadcast_to(seen, s.shape)
    top = jax.lax.stop_gradient(jnp.max(s, axis=-1, keepdims=True, initial=-1e9, where=seen))
    w = jnp.where(seen, jnp.exp(jnp.where(seen, s - top, 0.0)), 0.0)
    sum = w.sum(-1, keepdims=True)
    return jnp.einsum("...nm,...md->...nd", w / jnp.where(sum == 0.0, 1.0, sum), v)


def heads(q, k, dv=None):
    """Queries, keys and values of these shapes; values are as wide as keys, or dv."""
    return uniform(q), uniform(k), uniform([*k[:-1], dv or k[-1]])


attend = lambda variant, *inputs, **attrs: add(
    "scaled_dot_product_attention", variant, attention, *inputs, oracle="JAX", **attrs
)
attend("plain", *heads([2, 2, 5, 4], [2, 2, 7, 4], 3))
attend("causal, as long", *heads([2, 6, 4], [2, 6, 4]), causal=True)
attend("causal, fewer queries than keys", *heads([2, 3, 4], [2, 8, 4]), causal=True)
attend("causal, more queries than keys", *heads([1, 7, 3], [1, 4, 3]), causal=True)
for size, n, m in [(1, 17, 31), (3, 13, 37), (12, 3, 6), (63, 3, 6), (64, 3, 6), (80, 2, 5)]:
    attend(f"size {size}", *heads([1, n, size], [1, m, size]))
attend("size 256", *heads([1, 1, 256], [1, 1, 256], 1))
attend("a prime length", *heads([1, 3, 2], [1, 131, 2]))
attend("one query over many keys", *heads([1, 1, 1], [1, 397, 1]))
attend("grouped queries", *heads([2, 6, 3, 4], [2, 2, 5, 4]))
attend("one key head", *heads([4, 3, 5], [1, 6, 5], 2))
attend("scale", *heads([2, 3, 4], [2, 5, 4]), scale=-0.25)
attend("soft cap", *heads([2, 3, 4], [2, 5, 4]), softcap=1.5)
attend("soft cap below 1", *heads([2, 3, 4], [2, 5, 4]), softcap=0.75)
for d in (4, 3):
    q, k = uniform([1, 40, d], -40.0, 40.0), uniform([1, 80, d], -40.0, 40.0)
    attend(f"far out, size {d}", q, k, uniform([1, 80, d]))
attend("window", *heads([1, 9, 3], [1, 11, 3]), window=[2, 1])
attend("window to the left, causal", *heads([1, 9, 3], [1, 9, 3]), window=[3, None], causal=True)
# Kernels skip tiles of 64 keys that none of 32 rows of queries sees, those of heads that share their keys one after the other.
# Here a single query sees a single key of a tile.
for d in (4, 3):
    attend(f"a window to the right, a tile's last query, size {d}", *heads([2, 40, d], [1, 70, d]), window=[None, 3])
    attend(f"a window to the left, a tile's first query, size {d}", *heads([2, 40, d], [1, 95, d]), window=[16, None])
    attend(f"causal, a head's last query, size {d}", *heads([4, 20, d], [1, 65, d]), causal=True)
    attend(f"a window to the left, a head's first query, size {d}", *heads([4, 20, d], [1, 100, d]), window=[17, None])
attend("causal, the last of 64 queries", *heads([1, 64, 4], [1, 97, 4]), causal=True)
attend("a window to the left, the last of 32 keys", *heads([1, 33, 4], [1, 100, 4]), window=[4, None])
attend("heads with more queries than keys", *heads([2, 100, 2], [1, 66, 2]), window=[10, None], causal=True)
attend("causal, as many queries in two heads as keys", *heads([2, 3, 4], [1, 6, 4]), causal=True)
bits = lambda *shape: constant(Input(lambda random: random.randint(0, 2, shape).astype(np.float64)))
attend("boolean mask", *heads([2, 5, 3], [2, 6, 3]), bits(2, 5, 6))
attend("boolean mask, broadcast", *heads([2, 2, 4, 3], [2, 2, 5, 3]), bits(2, 1, 1, 5))
rows = [[0, 0, 0, 0], [1, 0, 1, 1], [0, 0, 0, 0]]
attend("rows of which nothing is seen", *heads([2, 3, 4], [2, 4, 4]), constant(given(rows)))
attend("added mask", *heads([2, 4, 3], [2, 5, 3]), uniform([2, 4, 5]))
attend("added mask, a number a head", *heads([2, 2, 4, 3], [2, 2, 5, 3]), uniform([2, 1, 5]))
attend("everything", *heads([2, 4, 5, 3], [2, 2, 7, 3], 4), uniform([4, 1, 7]), causal=True, softcap=3.0, scale=0.7, window=[4, 2])

# ---- attention at the sizes that models have ---------------------------------------------------------------------


def attend_long(variant, q, k, mask=None, **attrs):
    inputs = [Hashed(q), Hashed(k), Hashed(k)] + ([] if mask is None else [mask])
    op = "scaled_dot_product_attention"
    CASES.append(LongCase("attention_long", op, variant, "JAX", attention, inputs, attrs, True))


attend_long("1025 of size 256, causal", [1, 1025, 256], [1, 1025, 256], causal=True)
attend_long("1025 of size 1", [2, 1025, 1], [2, 1025, 1])
attend_long("509 queries over 1021 keys, one key head", [2, 509, 80], [1, 1021, 80])
attend_long("one query over 1025 keys", [2, 1, 128], [2, 1025, 128])
attend_long("boolean mask over 257 and 769", [1, 257, 64], [1, 769, 64], Hashed([257, 769], "bits"))
attend_long(
    "131 queries over 1025 keys, added mask, soft cap, window",
    [2, 131, 32], [2, 1025, 32], Hashed([131, 1025]), softcap=2.0, window=[700, 100],
)
