"""Rows of the word-level softmax: block by block against plain, and against the fastest products of this processor."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import numpy as np

from experiments.benchmark.peers import has_torch
from experiments.benchmark.rounds import alternate, seconds
from experiments.benchmark.row import Row, missing
from mlp_lm.cpu_gradients import minibatch_loss_and_grad, wide_loss_and_grad
from mlp_lm.initializers import SCHEMES, init_params
from mlp_lm.large_vocabulary import BFLOAT16
from mlp_lm.model import Architecture

# The paper's MLP9 on the Brown corpus: 100 hidden units, and a training vocabulary of 14,114.
MLP9 = Architecture(vocab_size=14_114, block_size=4, embedding_dim=30, hidden_size=100)
BATCH = 512
SIDE = 2048  # Of the square matrices whose product is taken for the processor's peak.
OFTEN = 5


def word_rows() -> Iterator[Row]:
    """A step's loss and gradient at 14,114 words."""
    plain, wide = _step(minibatch_loss_and_grad), _step(partial(wide_loss_and_grad, precision=BFLOAT16))
    ratio = alternate(seconds(plain, OFTEN), seconds(wide, OFTEN))
    yield Row.of_ratio("softmax of 14,114 words, plain in float32 / block by block in bfloat16", ratio, at_least=1.0)
    flops = 6 * BATCH * MLP9.hidden_size * MLP9.vocab_size
    for precision in ("float32", "bfloat16"):
        what = f"its products' share of the {precision} peak (a product of {SIDE} x {SIDE} matrices in PyTorch)"
        if not has_torch():
            yield missing(what, "stated", "PyTorch is not installed: pip install -e '.[benchmark]'")
            continue
        share = alternate(seconds(_product(precision), 2 * SIDE**3), seconds(wide, OFTEN * flops))
        ours, peak = 1e-9 / share.denominator, 1e-9 / share.numerator
        rates = f"{ours:.0f} of {peak:.0f} GFLOP/s, exponentials and updates included"
        yield Row(what, share.median, "x", "stated", None, rates)


def _step(loss_and_grad: Callable) -> Callable[[], object]:
    params = init_params(jax.random.key(0), SCHEMES["bengio2003"], MLP9)
    rng = np.random.default_rng(0)
    contexts = rng.integers(0, MLP9.vocab_size, (BATCH, MLP9.block_size), np.int32)
    targets = rng.integers(0, MLP9.vocab_size, BATCH, np.int32)

    @jax.jit
    def several(params, contexts, targets):
        # One after another, so that each step's arrays lie where the last one's did, as in training.
        def step(_, params):
            _, grads = loss_and_grad(params, contexts, targets)
            return jax.tree.map(lambda p, g: p - 1e-3 * g, params, grads)

        return jax.lax.fori_loop(0, OFTEN, step, params)

    several(params, contexts, targets)
    return lambda: jax.block_until_ready(several(params, contexts, targets))


def _product(precision: str) -> Callable[[], object]:
    import torch

    torch.set_num_threads(1)
    matrix = torch.randn(SIDE, SIDE, dtype=getattr(torch, precision))
    return lambda: matrix @ matrix
