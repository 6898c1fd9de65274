"""What the tests check beside their assertions: the annotations of `mlp_lm`, by jaxtyping and beartype."""

import inspect

import jaxtyping

_jaxtyped = jaxtyping.jaxtyped


def _jaxtyped_where_there_are_arrays(*arguments, typechecker=None):
    """jaxtyping's decorator, which takes ten times as long as the type checker, where an annotation has a shape."""

    def decorate(function):
        annotations = getattr(function, "__annotations__", {})
        names_shapes = any(isinstance(one, str) or "jaxtyping" in repr(one) for one in annotations.values())
        if not inspect.isfunction(function) or names_shapes or inspect.isgeneratorfunction(function):
            return _jaxtyped(typechecker=typechecker)(function)
        return typechecker(function)

    return decorate if typechecker and not arguments else _jaxtyped(*arguments, typechecker=typechecker)


jaxtyping.jaxtyped = _jaxtyped_where_there_are_arrays
