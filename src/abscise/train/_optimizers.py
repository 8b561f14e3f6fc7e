"""The recipe's optimizer over all parameters, biases and norms included."""

import torch
from torch import nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW, Optimizer, RMSprop

from abscise.train._names import OptimizerName, Precision
from abscise.train._recipe import Recipe


def build_optimizer(  # noqa: PLR0911 - one return per optimizer
    recipe: Recipe, model: nn.Module
) -> Optimizer:
    """The recipe's optimizer over all parameters, biases and norms included."""
    weights = list(model.parameters())
    rate, decay, eps = recipe.learning_rate, recipe.weight_decay, recipe.eps
    fused = _fused(recipe)
    match recipe.optimizer:
        case OptimizerName.ADAM | OptimizerName.ADAMW:
            kind = Adam if recipe.optimizer is OptimizerName.ADAM else AdamW
            return kind(
                weights,
                rate,
                recipe.betas,
                eps,
                weight_decay=decay,
                amsgrad=recipe.amsgrad,
                fused=fused,
            )
        case OptimizerName.SGD:
            return SGD(weights, rate, momentum=recipe.momentum, weight_decay=decay, fused=fused)
        case OptimizerName.RMSPROP:
            return RMSprop(weights, rate, eps=eps, weight_decay=decay)
        case OptimizerName.ADAGRAD:
            return Adagrad(weights, rate, weight_decay=decay)
        case OptimizerName.ADADELTA:
            return Adadelta(weights, rate, weight_decay=decay)


def _fused(recipe: Recipe) -> bool:
    """Fused kernels are the fast ones for small networks, where launching is what costs."""
    # A fused step undoes the scale of 16-mixed by itself, so that nothing could clip before it.
    hidden = recipe.precision is Precision.FP16_MIXED and recipe.clip > 0
    return torch.device(recipe.device).type in {"cpu", "cuda"} and not hidden
