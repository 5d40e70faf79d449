"""What a value function learns."""

import torch

from backflip.functional.value_losses import clipped_value_loss, squared_error


def test_squared_error_pulls_with_the_error_itself():
    values = torch.tensor([1.0, 3.0], requires_grad=True)
    squared_error(values, torch.tensor([4.0, 1.0])).sum().backward()
    torch.testing.assert_close(values.grad, torch.tensor([-3.0, 2.0]))


def test_the_clipped_value_loss_by_hand():
    """Old value 1, return 2, leash 0.2: toward the return, too far toward it, away from it."""
    values = torch.tensor([1.1, 1.8, 0.5], requires_grad=True)
    loss = clipped_value_loss(values, torch.ones(3), torch.full((3,), 2.0), eps=0.2)
    torch.testing.assert_close(loss, torch.tensor([0.5 * 0.9**2, 0.5 * 0.8**2, 0.5 * 1.5**2]))
    loss.sum().backward()
    torch.testing.assert_close(values.grad, torch.tensor([-0.9, 0.0, -1.5]))


def test_a_value_that_has_not_moved_is_not_clipped():
    values, returns = torch.tensor([0.0, 1.0, -5.0]), torch.tensor([3.0, 1.0, 8.0])
    torch.testing.assert_close(
        clipped_value_loss(values, values, returns), squared_error(values, returns)
    )
