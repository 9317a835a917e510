"""The inputs of a golden case, and what the oracles say of it."""

import json
import platform
import warnings
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import torch

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
warnings.filterwarnings("ignore", "reduction: 'mean' divides")  # of kl_div; that is what is asked for
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)

VERSIONS = (
    f"PyTorch {torch.__version__}, JAX {jax.__version__}, NumPy {np.__version__}, Python {platform.python_version()}"
)


class Input:
    """An input of a case: `draw(random)` gives its values; ids and constants are not differentiated."""

    def __init__(self, draw, kind="f32"):
        self.draw, self.kind = draw, kind


def uniform(shape, low=-2.0, high=2.0):
    return Input(lambda random: random.uniform(low, high, shape))


def spread(shape, low=-2.0, high=2.0):
    """No two alike and none close together: away from the kinks of a maximum."""
    count = int(np.prod(shape))
    grid = np.linspace(low, high, count)
    return Input(lambda random: random.permutation(grid).reshape(shape))


def given(values):
    return Input(lambda _: np.array(values, dtype=np.float64))


def ids(shape, bound):
    return Input(lambda random: random.randint(0, bound, shape), "ids")


def given_ids(values):
    return Input(lambda _: np.array(values), "ids")


def constant(input):
    return Input(input.draw, "constant")


class Hashed:
    """An input too large for a file, which a test makes anew from its shape and a seed."""

    def __init__(self, shape, kind="f32"):
        self.shape, self.kind = shape, kind

    def values(self, seed):
        count = int(np.prod(self.shape))
        words = hashes(seed, count).reshape(self.shape)
        return (words >> 31).astype(np.float64) if self.kind == "bits" else (words >> 8) / 2.0**22 - 2.0


def hashes(seed, count):
    """lowbias32 (C. Wellons, Hash Prospector, 2018) of the multiples of the golden ratio, from a seed."""
    h = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(seed)
    for shift, factor in [(16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)]:
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
    return h


class Case:
    def __init__(self, file, op, variant, oracle, function, inputs, attrs, gradient):
        self.file, self.op, self.name = file, op, f"{op} {variant}"
        self.oracle, self.function, self.inputs, self.attrs, self.gradient = oracle, function, inputs, attrs, gradient

    def tensors(self):
        """The tensors of this case, by their names in the file."""
        random = np.random.RandomState(zlib.crc32(self.name.encode()))  # frozen by NumPy for good
        x = [np.asarray(input.draw(random)) for input in self.inputs]
        x = [v if i.kind == "ids" else v.astype(np.float32).astype(np.float64) for v, i in zip(x, self.inputs)]
        wanted = [i.kind == "f32" and self.gradient for i in self.inputs]

        def dy(shape):
            return random.uniform(-2.0, 2.0, shape).astype(np.float32).astype(np.float64)

        compute = {"PyTorch": by_torch, "JAX": by_jax}[self.oracle]
        y, dys, dx, conditions = compute(lambda *x: self.function(*x, **self.attrs), x, wanted, dy)
        named = {f"x{i}": v for i, v in enumerate(x)} | {f"y{i}": v for i, v in enumerate(y)}
        named |= {f"dy{i}": v for i, v in dys.items()} | {f"dx{i}": v for i, v in dx.items()}
        named |= {f"{name}~": v for name, v in conditions.items()}
        return {f"{self.name}/{name}": word(value) for name, value in named.items()}

    def metadata(self):
        return json.dumps({"op": self.op, "attrs": self.attrs, "oracle": self.oracle}, sort_keys=True)


class LongCase(Case):
    """A case of `attention` too large for a file: inputs are hashed, outputs and gradients looked at in places."""

    PLACES = 37

    def tensors(self):
        seed = lambda name: zlib.crc32(f"{self.name}/{name}".encode())
        n, m, d = self.inputs[0].shape[-2], *self.inputs[1].shape[-2:]
        x = [np.asarray(input.values(seed(f"x{i}"))) for i, input in enumerate(self.inputs)]
        leaves = [i for i, input in enumerate(self.inputs) if input.kind == "f32"]
        y_shape = [*self.inputs[0].shape[:-1], self.inputs[2].shape[-1]]
        dy = Hashed(y_shape).values(seed("dy0"))
        shapes = {f"x{i}": input.shape for i, input in enumerate(self.inputs)} | {"y0": y_shape, "dy0": y_shape}
        shapes |= {f"dx{i}": self.inputs[i].shape for i in leaves}
        # The longest sum is over the keys or the queries, of what is a sum over d.
        self.long = {"shapes": shapes, "terms": max(n, m) + d, "bits": [i for i in range(len(x)) if i not in leaves]}
        self.long["seeds"] = {name: seed(name) for name in shapes if name[0] == "x" or name == "dy0"}

        names = ["y0", *(f"dx{i}" for i in leaves)]
        size = {name: int(np.prod(shapes[name])) for name in names}
        places = {name: np.linspace(0, size[name] - 1, min(self.PLACES, size[name])).astype(np.uint32) for name in names}

        def results(leaves_and_dy, skip=None):
            def forward(*given):
                full = list(x)
                for i, leaf in zip(leaves, given):
                    full[i] = leaf
                return self.function(*full, skip=skip, **self.attrs)

            y, pull = jax.vjp(forward, *leaves_and_dy[:-1])
            return [r.reshape(-1)[places[name]] for name, r in zip(names, [y, *pull(leaves_and_dy[-1])])]

        causes = [*(jnp.asarray(x[i]) for i in leaves), jnp.asarray(dy)]
        found, pull = jax.vjp(jax.jit(results), causes)
        moved_by = jax.jit(lambda ones: sum(jnp.abs(s * c).sum() for s, c in zip(pull(ones)[0], causes)))
        named = {}
        for at, name in enumerate(names):
            one = lambda place: [jnp.zeros_like(f).at[place].set(1.0) if i == at else jnp.zeros_like(f) for i, f in enumerate(found)]
            named[f"{name}~"] = np.array([moved_by(one(place)) for place in range(len(places[name]))])
            named |= {name: np.asarray(found[at]), f"{name}@": places[name]}
        # One term too few: a key of what is a sum over keys, a query of what is one over queries.
        fewer = dict(zip(names, results(causes, skip=m // 2)))
        if n > 1:
            fewer |= {name: r for name, r in zip(names, results([*causes[:-1], jnp.asarray(dy).at[..., n // 2, :].set(0)]))
                      if name in ("dx1", "dx2")}
        named |= {f"{name}!": np.asarray(r) for name, r in fewer.items() if name != "dx3"}
        return {f"{self.name}/{name}": word(value) for name, value in named.items()}

    def metadata(self):
        return json.dumps(json.loads(super().metadata()) | {"long": self.long}, sort_keys=True)


def word(value):
    value = np.asarray(value)
    if value.dtype.kind in "iu":
        assert value.size == 0 or value.min() >= 0
        return value.astype("<u4")
    with np.errstate(over="ignore"):  # past f32's range is infinity
        return value.astype("<f4")


def by_torch(function, x, wanted, draw):
    """The outputs, their gradients `{place: dy}`, those of the inputs, and conditions by name."""
    x = [torch.tensor(v, requires_grad=w) for v, w in zip(x, wanted)]
    y = function(*x)
    y = list(y) if isinstance(y, (tuple, list)) else [y]
    assert all(v.dtype in (torch.float64, torch.int64) for v in y), [v.dtype for v in y]
    dy = {i: torch.tensor(draw(v.shape), requires_grad=True) for i, v in enumerate(y) if v.requires_grad}
    leaves = {i: v for i, v in enumerate(x) if v.requires_grad}
    dx = {}
    if dy:
        loss = sum((y[i] * v).sum() for i, v in dy.items())
        slopes = torch.autograd.grad(loss, list(leaves.values()), create_graph=True, allow_unused=True)
        dx = {i: torch.zeros_like(leaves[i]) if v is None else v for i, v in zip(leaves, slopes)}
    causes = [*leaves.values(), *dy.values()]
    results = {f"y{i}": y[i] for i in dy} | {f"dx{i}": v for i, v in dx.items()}
    conditions = {}
    for name, result in results.items():
        flat = result.reshape(-1)
        rows = [condition(flat[at], causes) if flat.requires_grad else 0.0 for at in range(flat.numel())]
        conditions[name] = np.array(rows, dtype=np.float64).reshape(result.shape)
    numpy = lambda named: {i: v.detach().numpy() for i, v in named.items()}
    return [v.detach().numpy() for v in y], numpy(dy), numpy(dx), conditions


def condition(element, causes):
    slopes = torch.autograd.grad(element, causes, retain_graph=True, allow_unused=True)
    return sum(moved(s.detach().numpy(), c.detach().numpy()) for s, c in zip(slopes, causes) if s is not None)


def moved(slopes, causes):
    # What is not finite is compared by class, and needs no condition.
    with np.errstate(invalid="ignore"):
        parts = np.abs(slopes * causes)
    return float(parts[np.isfinite(parts)].sum())


def by_jax(function, x, wanted, draw):
    """As `by_torch`, of functions with one output."""
    places = [i for i, w in enumerate(wanted) if w]

    def forward(*leaves):
        full = list(x)
        for i, leaf in zip(places, leaves):
            full[i] = leaf
        return function(*full)

    leaves = [jnp.asarray(x[i]) for i in places]
    y = forward(*leaves)
    if not places:
        return [np.asarray(y)], {}, {}, {}
    dy = draw(y.shape)

    def results(*causes):
        y, pull = jax.vjp(forward, *causes[:-1])
        return [y, *pull(causes[-1])]

    causes = [*leaves, jnp.asarray(dy)]
    named = dict(zip(["y0", *(f"dx{i}" for i in places)], results(*causes)))
    jacobians = jax.jacrev(results, argnums=tuple(range(len(causes))))(*causes)
    conditions = {}
    for (name, result), slopes in zip(named.items(), jacobians):
        total = np.zeros(result.shape)
        for slope, cause in zip(slopes, causes):
            parts = np.abs(np.asarray(slope).reshape(*result.shape, -1) * np.asarray(cause).reshape(-1))
            total += np.where(np.isfinite(parts), parts, 0.0).sum(-1)
        conditions[name] = total
    return [np.asarray(y)], {0: dy}, {i: np.asarray(named[f"dx{i}"]) for i in places}, conditions
