"""The block-by-block softmax against the plain one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlp_lm.config import BFLOAT16, FLOAT32, Architecture
from mlp_lm.data.dataset import Windows
from mlp_lm.evaluation import EvaluationWindows, each_loss, exact_losses
from mlp_lm.initializers import init_params
from mlp_lm.large_vocabulary import BLOCK, blockwise_loss_and_grad
from mlp_lm.loss import cross_entropy, minibatch_loss, minibatch_loss_and_grad
from mlp_lm.model import Dropout, forward
from mlp_lm.schemes import SCHEMES

# Vocabularies of less than a block, of whole blocks, and of one token more.
MODELS = {
    "no direct": Architecture(300, 4, 6, 20),
    "log-linear": Architecture(2 * BLOCK, 2, 6, 0, direct=True),
    "both, two layers": Architecture(2 * BLOCK + 1, 3, 5, 12, n_layers=2, direct=True),
}


def model_and_batch(architecture, n=96):
    keys = jax.random.split(jax.random.key(3), 3)
    params = init_params(keys[0], SCHEMES["normal"], architecture)
    params = jax.tree.map(lambda leaf: 0.3 * leaf, params)
    contexts = jax.random.randint(keys[1], (n, architecture.block_size), 0, architecture.vocab_size)
    return params, contexts, jax.random.randint(keys[2], (n,), 0, architecture.vocab_size)


@pytest.mark.parametrize(
    ("precision", "tolerance", "rate"), [(FLOAT32, 2e-6, None), (FLOAT32, 2e-6, 0.3), (BFLOAT16, 1e-2, 0.3)]
)
@pytest.mark.parametrize("architecture", MODELS.values(), ids=MODELS.keys())
def test_loss_and_gradient_are_those_of_the_plain_softmax(architecture, precision, tolerance, rate):
    batch = model_and_batch(architecture)
    dropout = None if rate is None else Dropout(jax.random.key(7), jnp.float32(rate), jnp.float32(rate / 2))
    loss, grads = jax.jit(minibatch_loss_and_grad)(*batch, dropout)
    wide_loss, wide_grads = jax.jit(blockwise_loss_and_grad, static_argnums=4)(*batch, dropout, precision)
    assert float(wide_loss) == pytest.approx(float(loss), rel=tolerance)
    for plain, wide in zip(jax.tree.leaves(grads), jax.tree.leaves(wide_grads), strict=True):
        scale = np.abs(np.asarray(plain)).max(initial=0)
        np.testing.assert_allclose(wide, plain, atol=tolerance * scale, rtol=0)


def test_logits_beyond_the_exponential_of_float32_have_their_loss_and_gradient():
    params, *batch = model_and_batch(MODELS["both, two layers"])
    params = jax.tree.map(lambda leaf: 40 * leaf, params)
    assert float(forward(params, batch[0]).logits.max()) > 500  # exp overflows above 88.
    loss, grads = jax.jit(minibatch_loss_and_grad)(params, *batch)
    wide_loss, wide_grads = jax.jit(blockwise_loss_and_grad)(params, *batch)
    assert float(wide_loss) == pytest.approx(float(loss), rel=2e-6)
    for plain, wide in zip(jax.tree.leaves(grads), jax.tree.leaves(wide_grads), strict=True):
        np.testing.assert_allclose(wide, plain, atol=1e-4 * np.abs(np.asarray(plain)).max(initial=0), rtol=0)
    logits = forward(params, batch[0]).logits
    expected = jax.jit(jax.vmap(cross_entropy))(logits[:, None], batch[1][:, None])
    np.testing.assert_allclose(each_loss(params, Windows(*map(np.asarray, batch))), expected, rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize("architecture", MODELS.values(), ids=MODELS.keys())
def test_each_window_has_its_own_loss(architecture):
    params, contexts, targets = model_and_batch(architecture, n=300)  # More than a chunk.
    losses = each_loss(params, Windows(np.asarray(contexts), np.asarray(targets)))
    logits = forward(params, contexts).logits
    expected = jax.jit(jax.vmap(cross_entropy))(logits[:, None], targets[:, None])
    np.testing.assert_allclose(losses, expected, rtol=2e-5, atol=2e-6)


def test_exact_losses_of_splits_are_means_over_their_windows():
    params, contexts, targets = model_and_batch(MODELS["no direct"], n=300)
    weights = np.stack([np.arange(300) < 100, np.arange(300) >= 100, np.arange(300) % 7 == 0]).astype(np.float32)
    examples = EvaluationWindows.of(Windows(np.asarray(contexts), np.asarray(targets)), weights)
    naive = [minibatch_loss(params, contexts[split > 0], targets[split > 0]) for split in weights]
    np.testing.assert_allclose(exact_losses(params, examples), naive, rtol=1e-5)
