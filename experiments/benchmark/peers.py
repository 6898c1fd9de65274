"""The same training in PyTorch: the lecture's loop, and a compiled step over many models at once."""

import importlib.util
from collections.abc import Callable

import numpy as np

from mlp_lm.config import RunConfig
from mlp_lm.data.dataset import Windows

RATE = 0.1
NO_TORCH = "PyTorch is not installed: pip install -e '.[benchmark]'"


def has_torch() -> bool:
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def lecture_loop(config: RunConfig, windows: Windows, vocab_size: int) -> Callable[[int], None]:
    """A function that trains one model for so many steps, as the makemore lecture does, on one thread."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)
    contexts, targets = torch.tensor(windows.contexts).long(), torch.tensor(windows.targets).long()
    parameters = [torch.tensor(array) for array in _weights(config, vocab_size)]
    for parameter in parameters:
        parameter.requires_grad = True
    embedding, w1, b1, w2, b2 = parameters
    losses: list[float] = []

    def steps(n: int) -> None:
        for _ in range(n):
            ix = torch.randint(0, len(targets), (config.batch_size,))
            hidden = torch.tanh(embedding[contexts[ix]].view(config.batch_size, -1) @ w1 + b1)
            loss = F.cross_entropy(hidden @ w2 + b2, targets[ix])
            for parameter in parameters:
                parameter.grad = None
            loss.backward()
            for parameter in parameters:
                parameter.data += -RATE * parameter.grad  # type: ignore[operator]
            losses.append(loss.log10().item())

    return steps


def compiled_step(config: RunConfig, windows: Windows, vocab_size: int, n_models: int) -> Callable[[int], None]:
    """A function that trains many models at once: torch.func's vmapped gradient through torch.compile."""
    import torch
    import torch.nn.functional as F
    from torch.func import grad, vmap

    torch.set_num_threads(1)
    contexts, targets = torch.tensor(windows.contexts).long(), torch.tensor(windows.targets).long()
    models = tuple(torch.tensor(array).repeat(n_models, *[1] * array.ndim) for array in _weights(config, vocab_size))

    def loss(model, x, y):
        embedding, w1, b1, w2, b2 = model
        hidden = torch.tanh(embedding[x].reshape(config.batch_size, -1) @ w1 + b1)
        return F.cross_entropy(hidden @ w2 + b2, y)

    @torch.compile
    def step(models, x, y):
        return tuple(p - RATE * g for p, g in zip(models, vmap(grad(loss))(models, x, y), strict=True))

    def steps(n: int) -> None:
        nonlocal models
        for _ in range(n):
            ix = torch.randint(0, len(targets), (n_models, config.batch_size))
            models = step(models, contexts[ix], targets[ix])

    return steps


def square_product(side: int, precision: str) -> Callable[[], object]:
    """The product of two square matrices, on one thread."""
    import torch

    torch.set_num_threads(1)
    matrix = torch.randn(side, side, dtype=getattr(torch, precision))
    return lambda: matrix @ matrix


def _weights(config: RunConfig, vocab_size: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    features = config.block_size * config.embedding_dim
    shapes = [(vocab_size, config.embedding_dim), (features, config.hidden_size), (config.hidden_size,)]
    shapes += [(config.hidden_size, vocab_size), (vocab_size,)]
    return [rng.normal(0, 0.1, shape).astype(np.float32) for shape in shapes]
