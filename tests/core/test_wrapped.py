"""What wrappers hold."""

import pytest
import torch
from torch import nn

from gentext.core import Model, bare


class Mine(Model):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def loss(self, x):
        return (self.weight * x).sum()


def test_a_model_is_found_in_what_computes_the_same():
    """What ``torch.compile`` makes is in the tests of checkpoints and of training."""
    model = Mine()
    for around in (model, nn.DataParallel(model), nn.DataParallel(nn.DataParallel(model))):
        assert bare(around) is model


def test_a_model_is_found_in_what_joins_several_processes(tmp_path):
    rendezvous = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=0, world_size=1)
    try:
        model = Mine()
        assert bare(nn.parallel.DistributedDataParallel(model)) is model
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (torch.optim.swa_utils.AveragedModel(Mine()), r"AveragedModel around .*its \.module"),
        (nn.Linear(1, 1), r"Linear, which is no gentext\.Model; derive its class"),
        (Mine, r"type, the class Mine itself; give a model, Mine\(\.\.\.\)"),
        (None, "NoneType, which is no"),
    ],
)
def test_everything_else_is_refused(other, message):
    with pytest.raises(ValueError, match=f"got {message}"):
        bare(other)
