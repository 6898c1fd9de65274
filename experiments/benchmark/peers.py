"""The same training in PyTorch: the lecture's loop, and a compiled step over many models at once."""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from mlp_lm.config import RunConfig
from mlp_lm.data.dataset import Windows

RATE = 0.1
NO_TORCH = "PyTorch is not installed: pip install -e '.[benchmark]'"


def has_torch(device: str = "cpu") -> bool:
    """Whether PyTorch is installed, for this device."""
    if importlib.util.find_spec("torch") is None:
        return False
    if device == "cpu":
        return True
    import torch

    return torch.cuda.is_available()


def finished(steps: Callable[[int], None], device: str, n: int) -> None:
    """Take so many steps, and wait until the device has done them."""
    import torch

    steps(n)
    if device == "cuda":
        torch.cuda.synchronize()


def lecture_loop(config: RunConfig, windows: Windows, vocab_size: int, device: str = "cpu") -> Callable[[int], None]:
    """A function that trains one model for so many steps, as the makemore lecture does, on one thread."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)
    contexts, targets = _on_device(windows, device)
    parameters = [torch.tensor(array, device=device) for array in _weights(config, vocab_size)]
    for parameter in parameters:
        parameter.requires_grad = True
    embedding, w1, b1, w2, b2 = parameters
    losses: list[float] = []

    def steps(n: int) -> None:
        for _ in range(n):
            ix = torch.randint(0, len(targets), (config.batch_size,), device=device)
            hidden = torch.tanh(embedding[contexts[ix]].view(config.batch_size, -1) @ w1 + b1)
            loss = F.cross_entropy(hidden @ w2 + b2, targets[ix])
            for parameter in parameters:
                parameter.grad = None
            loss.backward()
            for parameter in parameters:
                parameter.data += -RATE * parameter.grad  # type: ignore[operator]
            losses.append(loss.log10().item())

    return steps


def graphed_loop(config: RunConfig, windows: Windows, vocab_size: int) -> Callable[[int], None]:
    """The lecture's step captured once as a CUDA graph and replayed, which leaves out the launches from Python."""
    import torch
    import torch.nn.functional as F

    contexts, targets = _on_device(windows, "cuda")
    parameters = [torch.tensor(array, device="cuda", requires_grad=True) for array in _weights(config, vocab_size)]
    embedding, w1, b1, w2, b2 = parameters
    ix = torch.zeros(config.batch_size, dtype=torch.long, device="cuda")

    def step() -> None:
        ix.random_(0, len(targets))
        hidden = torch.tanh(embedding[contexts[ix]].view(config.batch_size, -1) @ w1 + b1)
        gradients = torch.autograd.grad(F.cross_entropy(hidden @ w2 + b2, targets[ix]), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= RATE * gradient

    side = torch.cuda.Stream()  # A graph is captured after some steps on a stream of their own.
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def steps(n: int) -> None:
        for _ in range(n):
            graph.replay()

    return steps


def compiled_step(
    config: RunConfig, windows: Windows, vocab_size: int, n_models: int, device: str = "cpu"
) -> Callable[[int], None]:
    """A function that trains many models at once: torch.func's vmapped gradient through torch.compile."""
    import torch
    import torch.nn.functional as F
    from torch.func import grad, vmap

    torch.set_num_threads(1)
    contexts, targets = _on_device(windows, device)
    weights = [torch.tensor(array, device=device) for array in _weights(config, vocab_size)]
    models = tuple(weight.repeat(n_models, *[1] * weight.ndim) for weight in weights)

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
            ix = torch.randint(0, len(targets), (n_models, config.batch_size), device=device)
            models = step(models, contexts[ix], targets[ix])

    return steps


def square_product(side: int, precision: str) -> Callable[[], object]:
    """The product of two square matrices, on one thread."""
    import torch

    torch.set_num_threads(1)
    matrix = torch.randn(side, side, dtype=getattr(torch, precision))
    return lambda: matrix @ matrix


def _on_device(windows: Windows, device: str) -> tuple[Any, Any]:
    import torch

    contexts, targets = (torch.tensor(array, device=device).long() for array in (windows.contexts, windows.targets))
    return contexts, targets


def _weights(config: RunConfig, vocab_size: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    features = config.block_size * config.embedding_dim
    shapes = [(vocab_size, config.embedding_dim), (features, config.hidden_size), (config.hidden_size,)]
    shapes += [(config.hidden_size, vocab_size), (vocab_size,)]
    return [rng.normal(0, 0.1, shape).astype(np.float32) for shape in shapes]
