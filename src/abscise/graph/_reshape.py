"""Views on compact tensors: row-major reshapes without expanding what does not vary."""

from torch import Tensor

Group = tuple[tuple[int, ...], tuple[int, ...]]


def dim_groups(before: tuple[int, ...], after: tuple[int, ...]) -> list[Group]:
    """Split a reshape into the smallest groups of (input dims, output dims) of equal product.

    >>> dim_groups((2, 6, 5), (2, 2, 3, 5))
    [((0,), (0,)), ((1,), (1, 2)), ((2,), (3,))]
    """
    groups: list[Group] = []
    i = j = 0
    while i < len(before) or j < len(after):
        left: list[int] = []
        right: list[int] = []
        product_left = product_right = 1
        if i < len(before):
            left.append(i)
            product_left = before[i]
            i += 1
        if j < len(after) and (product_left != 1 or not left):
            right.append(j)
            product_right = after[j]
            j += 1
        while product_left != product_right:
            if product_left < product_right:
                left.append(i)
                product_left *= before[i]
                i += 1
            else:
                right.append(j)
                product_right *= after[j]
                j += 1
        groups.append((tuple(left), tuple(right)))
    return groups


def reshape_compact(tensor: Tensor, before: tuple[int, ...], after: tuple[int, ...]) -> Tensor:
    """A compact tensor of shape `before`, seen as shape `after` (same elements, row-major)."""
    if before == after:
        return tensor
    if 0 in before:
        return tensor.expand(before).reshape(after)
    expanded = list(tensor.shape)
    result = [1] * len(after)
    for left, right in dim_groups(before, after):
        if all(tensor.shape[dim] == 1 for dim in left):
            continue
        for dim in left:
            expanded[dim] = before[dim]
        for dim in right:
            result[dim] = after[dim]
    return tensor.expand(expanded).reshape(result)
